"""Packs in yen and dinars, from the file to the report, with a real Kafka and PostgreSQL."""

import json
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import asyncpg
import pytest

from billing_stream.projector.migrate import migrate
from billing_stream.records import topics as names
from billing_stream.records.topics import Topics
from tests.platforms.fake import Reply, fake_platform
from tests.support.audit import Audit, read_committed
from tests.support.projection import until
from tests.support.shop import create_merchants, shop
from tests.support.worker import create_topics, environment, run, worker
from tests.web.test_payments_on_kafka import (
    CUSTOM_SECRET,
    M1,
    PURCHASES,
    STRIPE_SECRET,
    Market,
)

pytestmark = pytest.mark.timeout(180)

DOMAIN = "one.myshopify.com"
PACKS = """\
[packs.starter]
credits = 25
title = "Starter pack"
price = { KWD = "0.75", JPY = "300" }
[packs.big]
credits = 1000
price = { KWD = "21.5" }
"""


async def has(market: Market, credits: int) -> bool:
    """Whether the merchant has so many."""
    return await market.total() == credits


async def rows(kafka: str, topic: str) -> dict[str, Any]:
    """The newest rows of a changelog of purchases, by id."""
    found = await read_committed(kafka, [topic])
    return {row["id"]: row for row in (json.loads(r.value) for r in found if r.key[:1] != b"\0")}


async def test_packs_are_sold_in_the_currencies_of_the_catalogue(
    kafka: str, prefix: str, folder: Path, postgres_url: str
) -> None:
    file = folder / "packs.toml"
    file.write_text(PACKS)
    topics = Topics("billing-stream", prefix)
    async with fake_platform() as fake:
        env = environment(
            kafka,
            prefix,
            BILLING_CATALOGUE=str(file),
            BILLING_CURRENCY="JPY",
            DATABASE_URL=postgres_url,
            STRIPE_API_KEY="sk_test_for_tests",
            STRIPE_WEBHOOK_SECRET=STRIPE_SECRET,
            STRIPE_API_URL=fake.url,
            CUSTOM_GATEWAY_URL=fake.url + "/checkouts",
            CUSTOM_GATEWAY_SECRET=CUSTOM_SECRET,
        )
        await create_topics(env)
        await create_merchants(kafka, prefix, {M1: DOMAIN})
        async with worker(env, folder) as running, shop(DOMAIN, running) as client:
            market = Market(client, [running], fake, Audit(kafka, topics))
            packs = (await client.insist("GET", "/api/billing/packs")).data
            buy = {"pack": "starter", "return_url": "https://app.example/back"}

            fake.replies(Reply(body={"id": "cs_1", "url": "https://pay.example/1"}))
            yen = await client.insist("POST", PURCHASES, {**buy, "platform": "stripe"})
            asked = parse_qs(fake.asked[0].body.decode())
            fake.replies(Reply(body={"charge_id": "c-1", "checkout_url": "https://pay.example/2"}))
            dinars = {**buy, "platform": "custom", "currency": "KWD"}
            dinar = await client.insist("POST", PURCHASES, dinars)
            gateway = json.loads(fake.asked[1].body)
            refused = [
                await client.insist("POST", PURCHASES, {**dinars, **other})
                for other in ({"currency": "USD"}, {"pack": "small"}, {"currency": "kwd"})
            ]

            paid = {"id": "cs_1", "object": "checkout.session", "payment_status": "paid"}
            ids = {"merchant_id": M1, "purchase_id": yen.data["purchase_id"]}
            await market.stripe("checkout.session.completed", {**paid, "metadata": ids})
            told = {"charge_id": "c-1", "merchant_id": M1}
            await market.custom({**told, "status": "accepted"})
            first = await client.until_status(yen.data["purchase_id"], "completed")
            second = await client.until_status(dinar.data["purchase_id"], "completed")
            await market.custom({**told, "kind": "refunded", "amount": "0.375"})
            await until(partial(has, market, 38), 30, "the refund")
            events = await market.events("credits.purchased")
            refunds = await market.events("purchase.refunded")

        verified = await run({**env, "DATABASE_URL": ""}, "verify")
        rebuilt = await run(env, "projector", "rebuild")
        projected = await run(env, "verify")

    assert [(p["pack"], p["title"], p["amount"], p["currency"]) for p in packs] == [
        ("starter", "Starter pack", "300", "JPY"),
        ("starter", "Starter pack", "0.750", "KWD"),
        ("big", "1000 credits", "21.500", "KWD"),
    ]
    price = "line_items[0][price_data]"
    form = {name.removeprefix(price): value for name, (value,) in asked.items()}
    assert (form["[currency]"], form["[unit_amount]"]) == ("jpy", "300")
    assert form["[product_data][name]"] == "Starter pack"
    assert (gateway["amount"], gateway["currency"]) == ("0.750", "KWD")
    assert [(r.status, r.code) for r in refused] == [
        (422, "INVALID_PACK"),
        (422, "INVALID_PACK"),
        (422, "VALIDATION_ERROR"),
    ]
    sold = [(p["amount"], p["currency"], p["pack"], p["test"]) for p in (first, second)]
    assert sold == [("300", "JPY", "starter", True), ("0.750", "KWD", "starter", False)]
    assert [(e["amount"], e["currency"], e["pack"], e["test"]) for e in events] == sold
    assert [(e["credits"], e["amount"], e["currency"]) for e in refunds] == [(12, "0.375", "KWD")]
    stored = await rows(kafka, topics.changelog(names.CREDIT_PURCHASES))
    kept = {(p["currency"], p["pack"], p.get("test", False)) for p in stored.values()}
    assert kept == {("JPY", "starter", True), ("KWD", "starter", False)}
    for code, output in (verified, rebuilt, projected):
        assert code == 0, output
    assert "no fault" in projected[1]
    connection = await asyncpg.connect(postgres_url)
    try:
        daily = await connection.fetch("SELECT * FROM billing_revenue_daily")
    finally:
        await connection.close()
    assert [(d["pack"], d["currency"], str(d["revenue"]), str(d["net"])) for d in daily] == [
        ("starter", "KWD", "0.750", "0.375")
    ]


async def test_a_projection_from_before_gets_the_currency_of_old_rows(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alembic import command

    from billing_stream.projector.projector_errors import ProjectionError

    upgrade = command.upgrade
    monkeypatch.setattr(command, "upgrade", lambda config, _: upgrade(config, "0002"))
    await migrate(postgres_url)
    monkeypatch.undo()
    connection = await asyncpg.connect(postgres_url)
    columns = "id, merchant_id, credits, amount, status, platform, created_at, expires_at, version"
    values = "gen_random_uuid(), gen_random_uuid(), 100, 9.99, 'completed', 'stripe', now(), now()"
    insert = f"INSERT INTO credit_purchases ({columns}) VALUES ({values}, 1)"
    try:
        await connection.execute(insert)
        with pytest.raises(ProjectionError, match="BILLING_CURRENCY_OF_OLD_ROWS is not set"):
            await migrate(postgres_url)
        done = await migrate(postgres_url, currency_of_old_rows="EUR")
        # By a projector of the release before, which goes on meanwhile.
        await connection.execute(insert)
        found = await connection.fetch("SELECT currency, pack, test FROM credit_purchases")
    finally:
        await connection.close()

    assert done == ["0003", "0004", "0010"]
    assert [tuple(row) for row in found] == [("EUR", None, False)] * 2
