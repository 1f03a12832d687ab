"""Lists, CSV and revenue as a worker answers them, from a real PostgreSQL."""

import csv
import html
import io
import re
import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest
import pytest_asyncio

from billing_stream.domain.model import Platform, PurchaseStatus
from billing_stream.observability.logs import AUDIT_LOGGER
from billing_stream.projector.migrate import migrate
from billing_stream.web.ops.lists import Lists, MerchantFilter, Order, PurchaseFilter
from billing_stream.web.pagination import Page
from billing_stream.web.projection import Projection, ProjectionUnreadable
from tests.ops.board import until
from tests.support.nodes import Cluster, Reply, cluster, get
from tests.support.tokens import client_headers, operator_headers

AT = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
MERCHANTS = 60
ROW = re.compile(r'<tr><th scope="row"[^>]*>(.*?)</tr>', re.DOTALL)
MANY = 20_000


@pytest_asyncio.fixture
async def database(postgres_url: str) -> AsyncIterator[Any]:
    """The tables of a projector, with nothing in them."""
    await migrate(postgres_url)
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()


@pytest_asyncio.fixture
async def node(tmp_path: Path, postgres_url: str, database: Any) -> AsyncIterator[Cluster]:
    """A worker that reads them."""
    async with cluster(str(tmp_path), {0: [0, 1, 2, 3]}, DATABASE_URL=postgres_url) as found:
        yield found


def merchant_id(number: int) -> str:
    return f"{number:08x}-1111-4111-8111-111111111111"


async def merchants(database: Any, count: int = MERCHANTS) -> None:
    """The higher its number the newer; each third has paid, the lower the later.

    Two always were created at the same time.
    """
    await database.executemany(
        "INSERT INTO billing_records (merchant_id, created_at, updated_at, version, platform, "
        "domain, last_purchase_at, total_credits_purchased) VALUES ($1, $2, $2, 1, $3, $4, $5, $6)",
        [
            (
                merchant_id(number),
                AT + timedelta(hours=number // 2),
                "shopify",
                f"shop-{number}.{'north' if number % 2 else 'south'}.example",
                AT + timedelta(days=100 - number) if number % 3 == 0 else None,
                100 if number % 3 == 0 else 0,
            )
            for number in range(count)
        ],
    )


async def purchase(database: Any, **more: Any) -> str:
    """A completed purchase; its id."""
    row = {
        "id": str(uuid.uuid4()),
        "merchant_id": merchant_id(1),
        "credits": 100,
        "amount": Decimal("9.99"),
        "status": "completed",
        "platform": "shopify",
        "created_at": AT,
        "completed_at": AT,
        "expires_at": AT + timedelta(days=1),
        "version": 1,
        "currency": "USD",
        "pack": "small",
        **more,
    }
    values = ", ".join(f"${number}" for number in range(1, len(row) + 1))
    query = f"INSERT INTO credit_purchases ({', '.join(row)}) VALUES ({values})"
    await database.execute(query, *row.values())
    return str(row["id"])


async def page(node: Cluster, path: str) -> Reply:
    return await get(node.nodes[0].url, path, operator_headers())


def rows(reply: Reply) -> list[str]:
    """The rows of the table of a page, as text."""
    found = ROW.findall(reply.raw.decode())
    return [" ".join(html.unescape(re.sub(r"<[^>]+>", " ", one)).split()) for one in found]


def older(reply: Reply) -> str | None:
    """Where the next part of the list is."""
    found = re.search(r'href="([^"]+)" rel="next"', reply.raw.decode())
    return html.unescape(found[1]) if found else None


async def walked(node: Cluster, path: str, query: str = "") -> list[str]:
    """The first word of each row of a list, part by part."""
    found: list[str] = []
    following: str | None = query
    while following is not None:
        reply = await page(node, path + following)
        assert reply.status == 200
        found += [row.split()[0] for row in rows(reply)]
        following = older(reply)
    return found


async def test_all_merchants_are_listed_once_the_newest_first(node: Cluster, database: Any) -> None:
    await merchants(database)

    found = await walked(node, "/ops/merchants")

    numbers = [int(re.findall(r"shop-(\d+)", name)[0]) for name in found]
    assert numbers == sorted(range(MERCHANTS), reverse=True)


async def test_a_merchant_that_comes_while_one_reads_moves_no_other(
    node: Cluster, database: Any
) -> None:
    await merchants(database)
    first = await page(node, "/ops/merchants")
    await database.execute(
        "INSERT INTO billing_records (merchant_id, created_at, updated_at, version, domain) "
        "VALUES ($1, now(), now(), 1, 'shop-999.example')",
        merchant_id(999),
    )

    second = await page(node, f"/ops/merchants{older(first)}")

    assert len(set(rows(first)) | set(rows(second))) == 50
    assert "shop-999" not in second.raw.decode()


async def test_merchants_that_paid_are_listed_the_last_first(node: Cluster, database: Any) -> None:
    await merchants(database)

    found = await walked(node, "/ops/merchants", "?order=paid")

    assert [int(re.findall(r"\d+", name)[0]) for name in found] == list(range(0, MERCHANTS, 3))


@pytest.mark.parametrize(
    ("sought", "found"),
    [
        ("shop-17.", ["shop-17.north.example"]),
        ("NORTH", [f"shop-{number}.north.example" for number in range(59, 10, -2)]),
        ("0000001f-1111", ["shop-31.north.example"]),
        ("%", []),
        ("_", []),
        ("1.south", []),
    ],
)
async def test_part_of_a_domain_or_of_an_id_finds(
    node: Cluster, database: Any, sought: str, found: list[str]
) -> None:
    await merchants(database)

    reply = await page(node, f"/ops/merchants?q={sought.replace('%', '%25')}")

    assert [row.split()[0] for row in rows(reply)] == found
    assert reply.status == (200 if found else 404)


async def test_purchases_are_filtered_by_state_platform_and_day(
    node: Cluster, database: Any
) -> None:
    for status in PurchaseStatus:
        for platform in Platform:
            for day in range(3):
                at = AT + timedelta(days=day, hours=23, minutes=59)
                await purchase(database, status=str(status), platform=str(platform), created_at=at)

    everything = await walked(node, "/ops/purchases")
    failed = await page(node, "/ops/purchases?state=failed&platform=stripe&day=2026-01-02")
    one_day = await walked(node, "/ops/purchases", "?day=2026-01-03")

    assert len(everything) == 45
    assert everything == sorted(everything, reverse=True)
    (row,) = rows(failed)
    assert row.startswith("2026-01-02 23:59:00 failed 9.99 USD 100 small")
    assert one_day == ["2026-01-03"] * 15


@pytest.mark.parametrize(
    "query",
    ["state=paid", "platform=ebay", "day=yesterday", "day=0001-01-01", "cursor=%C3%A4", "cursor=x"],
)
async def test_what_there_is_not_is_refused(node: Cluster, query: str) -> None:
    reply = await page(node, f"/ops/purchases?{query}")

    assert reply.status == 422


async def test_a_cursor_of_another_list_is_refused(node: Cluster, database: Any) -> None:
    await merchants(database)
    cursor = older(await page(node, "/ops/merchants"))

    assert cursor is not None
    assert (await page(node, f"/ops/purchases{cursor}")).status == 422


async def test_a_charge_leads_to_its_platform(node: Cluster, database: Any) -> None:
    await purchase(database, platform="stripe", platform_charge_id="cs_live_1")
    await purchase(database, platform="stripe", platform_charge_id='x"><script>')
    await purchase(database, platform="shopify", platform_charge_id="gid://shopify/1")

    shown = (await page(node, "/ops/purchases")).raw.decode()

    (link,) = re.findall(r'href="(https:[^"]+)"', shown)
    assert link == "https://dashboard.stripe.com/checkout/sessions/cs_live_1"
    assert "<script>" not in shown


async def test_csv_has_every_row_and_no_formula(
    node: Cluster, database: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", AUDIT_LOGGER)
    await merchants(database)
    formulas = ['=HYPERLINK("https://evil.example")', "+1", "-1", "@SUM(A1)", "\tx", "a,b\n=1"]
    for number, formula in enumerate(formulas):
        await purchase(
            database, platform_charge_id=formula, created_at=AT + timedelta(seconds=number)
        )
    await database.execute(
        "INSERT INTO credit_purchases (id, merchant_id, credits, amount, status, platform, "
        "created_at, expires_at, version) SELECT gen_random_uuid(), $1, 1, 1, 'pending', 'stripe', "
        "$2::timestamptz - n * interval '1 s', $2::timestamptz, 1 FROM generate_series(1, 6000) n",
        merchant_id(1),
        AT,
    )

    reply = await page(node, "/ops/purchases.csv")
    filtered = await page(node, "/ops/purchases.csv?state=completed")
    listed = await page(node, "/ops/merchants.csv?q=north")

    found = list(csv.DictReader(io.StringIO(reply.raw.decode(), newline="")))
    assert len(found) == 6_006
    assert len({row["id"] for row in found}) == 6_006
    charges = [row["platform_charge_id"] for row in reversed(found[:6])]
    assert charges == [f"'{text}" for text in formulas[:5]] + [formulas[5]]
    assert found[0]["domain"] == "shop-1.north.example"
    assert (found[0]["amount"], found[0]["created_at"]) == ("9.99", "2026-01-01T00:00:05+00:00")
    assert reply.headers["Content-Type"].startswith("text/csv")
    assert reply.headers["Content-Disposition"] == 'attachment; filename="purchases.csv"'
    assert reply.headers["Cache-Control"] == "no-store"
    assert len(filtered.raw.splitlines()) == 8
    assert len(listed.raw.splitlines()) == 31
    acts = [record for record in caplog.records if record.name == AUDIT_LOGGER]
    assert [record.getMessage() for record in acts] == [
        "export list=purchases outcome=done rows=6006",
        "export list=purchases outcome=done rows=6",
        "export list=merchants outcome=done rows=30",
    ]
    assert {record.__dict__["operator"] for record in acts} == {"olga"}


async def test_an_export_that_breaks_off_is_no_whole_file(
    node: Cluster, database: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", AUDIT_LOGGER)
    await database.execute(
        "INSERT INTO credit_purchases (id, merchant_id, credits, amount, status, platform, "
        "created_at, expires_at, version) SELECT gen_random_uuid(), $1, 1, 1, 'pending', 'stripe', "
        "now(), now(), 1 FROM generate_series(1, 5500) n",
        merchant_id(1),
    )
    projection = node.nodes[0].context.dashboard.lists._projection
    answers: list[Sequence[Any]] = []
    ask = projection.rows

    async def fails_later(query: str, *arguments: Any, **_: Any) -> Sequence[Any]:
        if answers:
            raise ProjectionUnreadable("it went away")
        answers.append(await ask(query, *arguments))
        return answers[-1]

    monkeypatch.setattr(projection, "rows", fails_later)

    with pytest.raises(aiohttp.ClientPayloadError):
        await page(node, "/ops/purchases.csv")

    (act,) = (record.getMessage() for record in caplog.records if record.name == AUDIT_LOGGER)
    assert act == "export list=purchases outcome=broken off rows=5000"


async def test_lists_and_exports_are_for_operators_only(node: Cluster) -> None:
    for path in ("/ops/merchants", "/ops/merchants.csv", "/ops/purchases.csv", "/ops/revenue"):
        for headers in ({}, client_headers("one.example")):
            reply = await get(node.nodes[0].url, path, headers)
            assert reply.status == 401


async def test_revenue_is_by_day_currency_and_pack(node: Cluster, database: Any) -> None:
    now = datetime.now(UTC)
    for days, more in (
        (0, {}),
        (1, {"amount": Decimal("39.99"), "pack": "medium"}),
        (2, {"currency": "JPY", "amount": Decimal("1500")}),
        (3, {"test": True}),
        (4, {"status": "pending", "completed_at": None}),
        (40, {}),
    ):
        await purchase(database, **{"completed_at": now - timedelta(days=days), **more})
    refunded = await purchase(database, status="refunded", completed_at=now - timedelta(days=50))
    await database.execute(
        "INSERT INTO billing_events VALUES (gen_random_uuid(), $1, "
        "'evt.billing.purchase.refunded.v1', 1, NULL, NULL, now(), -100, 't', 0, 0, "
        "jsonb_build_object('purchase_id', $2::text, 'amount', '9.99'))",
        merchant_id(1),
        refunded,
    )

    month = await page(node, "/ops/revenue")
    quarter = await page(node, "/ops/revenue?days=90")

    assert rows(month) == [
        "small 1 1,500 0 0 1,500",
        "medium 1 39.99 0 0.00 39.99",
        "small 1 9.99 1 9.99 0.00",
    ]
    assert "USD: 39.99 net in 30 days" in month.raw.decode()
    assert rows(quarter)[2] == "small 3 29.97 1 9.99 19.98"
    bars = re.findall(r"<title>([^<]+)</title><rect", month.raw.decode())
    assert len(bars) == 60
    assert bars[-1] == f"{now:%Y-%m-%d}: 9.99 USD, 1 purchase"


async def test_conversion_is_by_the_week_in_which_trials_started(
    node: Cluster, database: Any
) -> None:
    await merchants(database, 4)
    monday = datetime.now(UTC) - timedelta(days=datetime.now(UTC).weekday(), weeks=2)
    monday = monday.replace(hour=0, minute=0, second=0, microsecond=0)
    await database.execute(
        "UPDATE billing_records SET trial_started_at = $1::timestamptz, "
        "trial_ends_at = $1::timestamptz + interval '7 days', "
        "last_purchase_at = CASE WHEN last_purchase_at IS NOT NULL THEN now() END",
        monday,
    )

    shown = await page(node, "/ops/revenue")

    assert rows(shown) == [f"{monday:%Y-%m-%d} 4 0 2 50.0%"]


async def test_a_trial_that_ended_by_a_test_clock_does_not_run(
    node: Cluster, database: Any
) -> None:
    await merchants(database, 2)
    now = datetime.now(UTC)
    await database.execute(
        "UPDATE billing_records SET trial_started_at = $1, trial_ends_at = $2", now, now + DAY
    )
    await database.execute(
        "UPDATE billing_records SET updated_at = $1 WHERE merchant_id = $2",
        now + 2 * DAY,
        merchant_id(1),
    )

    shown = await page(node, "/ops")

    assert b"<dt>Trials started</dt><dd>2</dd>" in shown.raw
    assert b"<dt>Trials running now</dt><dd>1</dd>" in shown.raw


async def test_lists_say_what_they_are_as_of(node: Cluster, database: Any) -> None:
    await merchants(database, 1)
    unknown = await page(node, "/ops/merchants")
    topics = node.nodes[0].context.dashboard.projected_topics
    await database.executemany(
        "INSERT INTO projection_positions (topic, partition, next_offset, complete_at) "
        "VALUES ($1, 0, 1, $2)",
        [(topic, AT + timedelta(minutes=n)) for n, topic in enumerate(topics)],
    )
    await database.execute("UPDATE projection_positions SET updated_at = $1", AT)

    async def shown() -> Reply | None:
        reply = await page(node, "/ops/merchants")
        return reply if b"which is not complete yet" not in reply.raw else None

    known = await until(shown)
    overview = await page(node, "/ops")

    assert "which is not complete yet" in unknown.raw.decode()
    text = html.unescape(known.raw.decode())
    assert "2026-01-01 00:00:00 UTC" in text
    assert "no projector has written since" in text
    assert "No projector has written since" in overview.raw.decode()


async def test_without_tables_the_list_says_so(tmp_path: Path, postgres_url: str) -> None:
    async with cluster(str(tmp_path), {0: [0, 1, 2, 3]}, DATABASE_URL=postgres_url) as found:
        reply = await page(found, "/ops/purchases")

    assert reply.status == 200
    assert "there is no projection yet: no projector has run" in reply.raw.decode()


class Explained(Projection):
    """Keeps how PostgreSQL carries out what is asked."""

    plan = ""

    async def rows(self, query: str, *arguments: Any, seconds: float = 2.0) -> Sequence[Any]:
        """The rows; the plan is kept."""
        plan = await super().rows(f"EXPLAIN {query}", *arguments)
        self.plan = "\n".join(row[0] for row in plan)
        return await super().rows(query, *arguments)


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (PurchaseFilter(), "credit_purchases_created_at_idx"),
        (PurchaseFilter(status=PurchaseStatus.FAILED), "credit_purchases_status_created_at_idx"),
        (PurchaseFilter(platform=Platform.CUSTOM), "credit_purchases_platform_created_at_idx"),
        (MerchantFilter(), "billing_records_created_at_idx"),
        (MerchantFilter(order=Order.PAID), "billing_records_last_purchase_at_idx"),
    ],
)
async def test_a_part_in_the_middle_of_a_long_list_is_read_by_an_index(
    postgres_url: str, database: Any, wanted: MerchantFilter | PurchaseFilter, index: str
) -> None:
    await database.execute(
        "INSERT INTO billing_records (merchant_id, created_at, updated_at, version, "
        "last_purchase_at) SELECT gen_random_uuid(), $1::timestamptz + n * interval '1 s', "
        "$1::timestamptz, 1, $1::timestamptz - n * interval '1 s' FROM generate_series(1, $2) n",
        AT,
        MANY,
    )
    await database.execute(
        "INSERT INTO credit_purchases (id, merchant_id, credits, amount, status, platform, "
        "created_at, expires_at, version) SELECT gen_random_uuid(), gen_random_uuid(), 1, 1, "
        "CASE WHEN n % 200 = 0 THEN 'failed' ELSE 'completed' END, "
        "CASE WHEN n % 200 = 0 THEN 'custom' ELSE 'shopify' END, "
        "$1::timestamptz + n * interval '1 s', $1::timestamptz, 1 FROM generate_series(1, $2) n",
        AT,
        MANY,
    )
    await database.execute("ANALYZE")
    projection = Explained(postgres_url, "public")
    lists = Lists(projection)
    ask: Any = lists.merchants if isinstance(wanted, MerchantFilter) else lists.purchases
    try:
        first = await ask(wanted, Page(limit=50))
        second = await ask(wanted, Page(limit=25, cursor=first.following))
    finally:
        projection.close()

    assert len(second.rows) == 25
    assert f"Scan Backward using {index}" in projection.plan
    assert "Sort" not in projection.plan.split("Limit")[-1]
