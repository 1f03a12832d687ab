"""The ways in for operators, on a real Kafka with a running worker: the terminal and HTTP."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from billing_stream.records import topics as names
from billing_stream.records.topics import Topics
from tests.support.audit import read_committed
from tests.support.nodes import Reply, get
from tests.support.projection import until
from tests.support.shop import create_merchants, shop
from tests.support.tokens import operator_headers
from tests.support.worker import create_topics, environment, run, worker
from tests.web.conftest import M1

pytestmark = pytest.mark.timeout(180)

DOMAIN = "one.myshopify.com"
SUMMER = '[packs.small]\ncredits = 120\ntitle = "Summer"\nprice = { USD = "9.99", KWD = "3.100" }\n'
AUTUMN = {"small": {"credits": 80, "price": {"USD": "8.50"}}}
WHY = ("--reason", "summer prices", "--by", "ann@host")
CATALOGUE = "/internal/catalogue"


async def ordered(env: dict[str, str], *words: str, code: int = 0) -> str:
    """What `billing-stream catalogue` prints."""
    ended, output = await run(env, "catalogue", *words)
    assert ended == code, output
    assert "Traceback" not in output
    return output


async def post(url: str, **body: Any) -> Reply:
    return await get(url, CATALOGUE, operator_headers("olga"), method="POST", json=body)


async def letters(kafka: str, prefix: str) -> list[str]:
    """The reasons of all dead letters."""
    found = await read_committed(kafka, [Topics("billing-stream", prefix).name(names.DEAD_LETTERS)])
    return [json.loads(record.value)["reason"] for record in found]


async def test_operators_set_the_catalogue_by_the_terminal_and_http(
    kafka: str, prefix: str, folder: Path
) -> None:
    env = environment(
        kafka, prefix, STRIPE_API_KEY="sk_test_1", STRIPE_WEBHOOK_SECRET="whsec_" + "x" * 32
    )
    prices, wrong = folder / "prices.toml", folder / "wrong.toml"
    prices.write_text(SUMMER)
    wrong.write_text(SUMMER.replace("3.100", "3.101").replace("Summer", ""))
    uncharged = folder / "uncharged.toml"
    uncharged.write_text(SUMMER.replace("3.100", "3.101"))
    await create_topics(env)
    await create_merchants(kafka, prefix, {M1: DOMAIN})

    not_decided = await ordered(env, "set", str(prices), *WHY, "--wait", "1s", code=1)
    assert "not decided yet" in not_decided
    (key,) = re.findall(r"--idempotency-key (\S+)", not_decided)

    async with worker(env, folder) as running, shop(DOMAIN, running) as client:

        async def sold() -> list[Any]:
            packs = (await client.insist("GET", "/api/billing/packs")).data
            return [(one["pack"], one["credits"], one["currency"]) for one in packs]

        async def changed() -> bool:
            return await sold() == [("small", 120, "USD"), ("small", 120, "KWD")]

        await until(changed, 30, "the packs of the command that waited")
        again = await ordered(env, "set", str(prices), *WHY, "--idempotency-key", key)
        assert "version 1 was set before: is in force" in again
        assert "medium is retired: 500 credits for 39.99 USD" in again
        other = await ordered(
            env, "set", str(prices), "--reason", "x", "--idempotency-key", key, code=1
        )
        assert "rejected: IDEMPOTENCY_KEY_REUSED: version 1 was set with this key" in other

        refused = await ordered(env, "set", str(wrong), *WHY, code=2)
        assert "wrong.toml: packs.small.title: must be a text" in refused
        refused = await ordered(env, "set", str(uncharged), *WHY, code=2)
        assert "more decimals than can be charged in KWD by Stripe" in refused
        missing = await ordered(env, "set", str(folder / "none.toml"), *WHY, code=2)
        assert "cannot be read: No such file" in missing
        past = await ordered(env, "set", str(prices), *WHY, "--effective-at", "2020-01-01", code=2)
        assert "is in the past" in past

        at = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
        body = {"packs": AUTUMN, "reason": "autumn", "effective_at": at.isoformat()}
        first = await post(running.url, **body, idempotency_key="autumn")
        assert first.status == 201, first.body
        assert (first.data["version"], first.data["by"], first.data["packs"]) == (2, "olga", AUTUMN)
        repeated = await post(running.url, **body, idempotency_key="autumn")
        assert (repeated.replayed, repeated.without_ids) == (True, first.without_ids)
        refusals = [
            await post(running.url, **{**body, "reason": "x"}, idempotency_key="autumn"),
            await post(running.url, **body),
            await post(running.url, **{**body, "effective_at": "2020-01-01T00:00:00Z"}, **ANY),
            await post(running.url, packs=priced({"KWD": "1.001", "USD": "1"}), **WHY_NOT),
            await post(running.url, packs=priced({"USD": "0.001"}), **WHY_NOT),
            await post(running.url, packs=priced({"EUR": "1"}), **WHY_NOT),
            await post(running.url, packs={}, **WHY_NOT),
        ]
        assert [(one.status, one.code) for one in refusals] == [
            (409, "IDEMPOTENCY_KEY_REUSED"),
            *[(422, "VALIDATION_ERROR")] * 6,
        ]
        assert "by Stripe" in refusals[3].body["error"]["message"]

        now = (await get(running.url, CATALOGUE, operator_headers())).data
        assert (now["source"], now["in_force"]["version"]) == ("log", 1)
        (coming,) = now["coming"]
        assert (coming["version"], coming["state"]) == (2, "coming")
        assert datetime.fromisoformat(coming["effective_at"]) == at
        assert {one["pack"] for one in now["retired"]} == {"medium", "large"}
        history = await get(running.url, f"{CATALOGUE}/versions?limit=1", operator_headers())
        assert [one["version"] for one in history.data] == [2]
        assert history.body["pagination"]["total"] == 2
        following = f"{CATALOGUE}/versions?cursor={history.body['pagination']['next_cursor']}"
        older = await get(running.url, following, operator_headers())
        assert [one["version"] for one in older.data] == [1]
        assert (await get(running.url, CATALOGUE)).status == 401

        shown = json.loads(await ordered(env, "show", "--json"))
        assert shown == now
        assert "version 2 is coming, effective from" in await ordered(env, "show")
        dry = await ordered(env, "set", str(prices), *WHY, "--effective-at", "2h", "--dry-run")
        assert "nothing is set: this would change" in dry
        assert "small is changed: 80 credits for 8.50 USD -> 120 credits for 9.99 USD" in dry
        listed = [json.loads(line) for line in (await history_of(env)).splitlines()]
        assert [(one["version"], one["by"], one["reason"]) for one in listed] == [
            (2, "olga", "autumn"),
            (1, "ann@host", "summer prices"),
        ]
        assert await letters(kafka, prefix) == [
            "IDEMPOTENCY_KEY_REUSED: version 1 was set with this key and other parameters",
            "IDEMPOTENCY_KEY_REUSED: version 2 was set with this key and other parameters",
        ]
        assert re.search("set_catalogue .*record=.*operator=olga", running.tail())

        for more, said in (
            ({}, ["version 1 decides which packs are on sale, since "]),
            (
                {"SMALL_PACK_CREDITS": "7", "BILLING_CURRENCY": "EUR"},
                [
                    "version 1 decides",
                    "the settings have other packs than version 1, which are not sold",
                    "no pack of version 1 has a price in EUR",
                ],
            ),
        ):
            _, output = await run({**env, **more}, "doctor", "--json")
            # Before the answer: that Stripe, which is not there, is asked again.
            checked = json.loads(output[output.index("[\n") :])
            found = [one for one in checked if one["check"] == "catalogue"]
            texts = [one["said"] for one in found]
            assert all(text.startswith(start) for text, start in zip(texts, said, strict=True))
            assert "next is version 2 at 20" in texts[0]
            assert [one["verdict"] for one in found[1:]] == ["WARN"] * (len(said) - 1)

    for command in ("verify", "replay"):
        code, output = await run(env, command)
        assert code == 0, output


WHY_NOT = {"reason": "x", "idempotency_key": "x"}
ANY = {"idempotency_key": "another"}


def priced(price: dict[str, str]) -> Any:
    return {"small": {"credits": 5, "price": price}}


async def history_of(env: dict[str, str]) -> str:
    return await ordered(env, "history", "--json")
