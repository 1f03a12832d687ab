"""`billing-stream deliver endpoints`, `redeliver`: what they print and change, on PostgreSQL."""

import asyncio
import json
from collections.abc import Mapping

import pytest
from aiohttp import web

from tests.support.delivery import (
    EXPIRED,
    PURCHASED,
    Delivered,
    add_endpoint,
    deliver_environment,
    delivered,
    event,
)
from tests.support.projection import fetch
from tests.support.receiver import Received, in_order, receiving
from tests.support.worker import run

SECONDS_MAX = 60.0
URL = "https://crm.example.com/billing"


@pytest.fixture
def env(postgres_url: str) -> dict[str, str]:
    """Without a broker: these commands ask none."""
    strict = {"BILLING_WEBHOOKS_ALLOW_PRIVATE": "false"}
    return {**deliver_environment("127.0.0.1:9", "t.", postgres_url), **strict}


async def listed(env: Mapping[str, str]) -> list[dict[str, object]]:
    """What `list --json` prints."""
    code, output = await run(env, "deliver", "endpoints", "list", "--json")
    assert code == 0, output
    return [json.loads(line) for line in output.splitlines()]


async def done(env: Mapping[str, str], *arguments: str) -> str:
    """The last line of a command that succeeds."""
    code, output = await run(env, "deliver", *arguments)
    assert code == 0, output
    return output.splitlines()[-1]


async def refused(env: Mapping[str, str], *arguments: str) -> str:
    """The output of a command that ends with 2."""
    code, output = await run(env, "deliver", *arguments)
    assert code == 2, output
    return output


async def test_an_endpoint_through_its_life(env: dict[str, str]) -> None:
    secret = await add_endpoint(env, "crm", URL)
    other = await add_endpoint(env, "books", URL, "--event", PURCHASED, "--event", EXPIRED)
    assert secret.startswith("whsec_")
    assert secret != other

    books, crm = await listed(env)
    assert (crm["id"], crm["url"], crm["event_types"], crm["state"]) == (
        "crm",
        URL,
        None,
        "enabled",
    )
    assert books["event_types"] == sorted([PURCHASED, EXPIRED])
    assert await done(env, "endpoints", "disable", "crm") == "endpoint crm is disabled"
    again = await refused(env, "endpoints", "disable", "crm")
    assert "endpoint crm is disabled already" in again
    code, table = await run(env, "deliver", "endpoints", "list")
    assert (code, secret in table, "by an operator" in table) == (0, False, True)
    assert (await listed(env))[1]["state"] == "disabled"
    assert await done(env, "endpoints", "enable", "crm") == "endpoint crm is enabled"
    assert (await done(env, "endpoints", "rotate-secret", "crm")).startswith("whsec_")
    assert [one["secrets"] for one in await listed(env)] == [1, 2]
    assert await done(env, "endpoints", "remove", "crm") == "endpoint crm is removed"
    assert [one["id"] for one in await listed(env)] == ["books"]


async def test_what_is_wrong_is_refused_and_changes_nothing(env: dict[str, str]) -> None:
    await add_endpoint(env, "crm", URL)
    before = await listed(env)

    assert "there is an endpoint crm already" in await refused(env, "endpoints", "add", "crm", URL)
    assert "the address is not https://" in await refused(
        env, "endpoints", "add", "x", "http://crm.example.com"
    )
    assert "not a public address" in await refused(env, "endpoints", "add", "x", "https://10.0.0.1")
    assert "is not one of: evt.billing." in await refused(
        env, "endpoints", "add", "x", URL, "--event", "purchases"
    )
    assert "ID is 1 to 64 letters" in await refused(env, "endpoints", "add", "a/b", URL)
    for command in ("enable", "disable", "remove", "rotate-secret"):
        assert "there is no endpoint x" in await refused(env, "endpoints", command, "x")
    assert "there is no endpoint x" in await refused(env, "redeliver", "x", "--from", "2h")
    assert "name event ids, or give --from" in await refused(env, "redeliver", "crm")
    turned = ("--from", "1h", "--until", "2h")
    assert "--until is not later than --from" in await refused(env, "redeliver", "crm", *turned)
    assert await listed(env) == before


async def test_a_running_process_follows_commands(env: dict[str, str], postgres_url: str) -> None:
    async with receiving() as receiver, delivered(postgres_url) as running:
        await running.add("e", f"{receiver.url}/e")
        await running.store(event(n) for n in range(1, 4))
        await receiver.until(lambda: len(receiver.requests) == 3, SECONDS_MAX, "all")
        ids = [event(1).event_id, event(3).event_id]
        assert await done(env, "redeliver", "e", *ids) == "2 events are queued for e"
        await receiver.until(lambda: len(receiver.requests) == 5, SECONDS_MAX, "by id")
        assert await done(env, "redeliver", "e", "--from", "1h") == "3 events are queued for e"
        await receiver.until(lambda: len(receiver.requests) == 8, SECONDS_MAX, "by time")
        code, output = await run(env, "deliver", "redeliver", "e", "unknown")
        assert code == 1
        assert "event unknown is not kept" in output

        # Since the beginning, of what is kept.
        private = {**env, "BILLING_WEBHOOKS_ALLOW_PRIVATE": "true"}
        await add_endpoint(private, "late", f"{receiver.url}/late", "--since", "1h")
        await receiver.until(lambda: len(receiver.requests) == 11, SECONDS_MAX, "those before")
        await done(env, "endpoints", "disable", "e")
        waits = "1 event is queued for e, which is disabled: nothing is sent"
        assert await done(env, "redeliver", "e", ids[0]) == waits
    assert receiver.sequences("/e") == [1, 2, 3, 1, 3, 1, 2, 3]
    assert receiver.sequences("/late") == [1, 2, 3]


async def test_a_crash_repeats_what_was_not_noted_and_nothing_else(postgres_url: str) -> None:
    released = asyncio.Event()

    async def held(received: Received) -> web.Response:
        if received.sequence == 8:
            await released.wait()
        return web.Response(status=204)

    async with receiving() as receiver:
        receiver.answers["/e"] = held
        first = Delivered(postgres_url)
        await first.start()
        await first.add("e", f"{receiver.url}/e")
        await first.store(event(n) for n in range(1, 31))
        await receiver.until(lambda: len(receiver.requests) == 8, SECONDS_MAX, "some")
        await first.crash()
        released.set()
        left = await fetch(
            postgres_url, "SELECT min(sequence) AS next FROM public_webhooks.webhook_deliveries"
        )
        async with delivered(postgres_url):
            await receiver.until(
                lambda: receiver.sequences("/e")[-1] == 30, SECONDS_MAX, "the rest"
            )
    sequences, first_again = receiver.sequences("/e"), left[0]["next"]
    assert in_order(sequences, 30)
    assert sequences[first_again - 31 :] == list(range(first_again, 31))
