"""What happened to a merchant, read from a real PostgreSQL; and what is said without one."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import asyncpg
import pytest
import pytest_asyncio

from billing_stream.projector.migrate import migrate
from billing_stream.records.topics import COMMANDS, PURCHASE_UPDATED
from billing_stream.web.pagination import cursor_after
from tests.support.nodes import Cluster, cluster, get
from tests.support.ports import free_port
from tests.support.tokens import operator_headers
from tests.web.conftest import M1, M2

SHOP, OTHER = "one.example", "two.example"
PATH = "/api/billing/history"
AT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest_asyncio.fixture
async def database(postgres_url: str) -> AsyncIterator[Any]:
    """A connection to the database, in which there is nothing."""
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()


@pytest_asyncio.fixture
async def node(tmp_path: Path, postgres_url: str) -> AsyncIterator[Cluster]:
    """A worker that is told of the database, and knows two merchants."""
    async with cluster(str(tmp_path), {0: [0, 1, 2, 3]}, DATABASE_URL=postgres_url) as found:
        await found.create(M1, SHOP)
        await found.create(M2, OTHER)
        yield found


async def happened(
    database: Any,
    merchant: str,
    sequence: int,
    kind: str,
    credits: int,
    cause: str | None,
    **more: Any,
) -> None:
    """An event, as the projector writes it."""
    data = {"merchant_id": merchant, "purchase_id": f"p{sequence}", "credits": abs(credits), **more}
    await database.execute(
        "INSERT INTO billing_events (event_id, merchant_id, event_type, sequence, cause, "
        'correlation_id, at, credits_delta, topic, partition, "offset", data) '
        "VALUES ($1, $2, $3, $4, $5, 'c-1', $6, $7, $3, 0, $4, $8)",
        uuid.uuid5(uuid.UUID(merchant), str(sequence)),
        merchant,
        f"evt.billing.{kind}.v1",
        sequence,
        cause,
        AT + timedelta(hours=sequence),
        credits,
        json.dumps(data),
    )


async def test_history_is_newest_first_with_cause_and_balance_after(
    node: Cluster, database: Any, postgres_url: str
) -> None:
    await migrate(postgres_url)
    await happened(database, M1, 1, "trial.started", 0, "http")
    await happened(database, M1, 2, "credits.purchased", 500, f"t.{PURCHASE_UPDATED}[3]@17")
    await happened(database, M1, 3, "purchase.refunded", -125, "operator:olga")
    await happened(database, M2, 1, "credits.purchased", 100, "timer")

    reply = await node.nodes[0].get(PATH, SHOP)

    refund, paid, trial = reply.data
    assert [entry["sequence"] for entry in reply.data] == [3, 2, 1]
    assert [entry["credits"] for entry in reply.data] == [-125, 500, 0]
    assert [entry["balance_after"] for entry in reply.data] == [375, 500, 0]
    assert refund["cause"] == {"origin": "operator"}
    assert trial["cause"] == {"origin": "http"}
    assert paid == {
        "event_id": str(uuid.uuid5(uuid.UUID(M1), "2")),
        "type": "evt.billing.credits.purchased.v1",
        "at": "2026-01-01T02:00:00Z",
        "sequence": 2,
        "cause": {"origin": "webhook"},
        "correlation_id": "c-1",
        "credits": 500,
        "balance_after": 500,
        "purchase_id": "p2",
        "data": {"merchant_id": M1, "purchase_id": "p2", "credits": 500},
        "complete": True,
    }
    assert reply.body["pagination"] == {
        "page": 1,
        "limit": 10,
        "total": 3,
        "total_pages": 1,
        "next_cursor": None,
    }


INTERNAL = "fraud suspicion, ticket 4711"


@pytest.mark.parametrize(
    "cause", ["operator:alice.smith@corp.example", "cli", f"t.{COMMANDS}[1]@42", None]
)
@pytest.mark.parametrize("note", [None, "Sorry for the wait"])
async def test_a_merchant_reads_the_note_and_neither_reason_nor_operator(
    node: Cluster, database: Any, postgres_url: str, cause: str | None, note: str | None
) -> None:
    await migrate(postgres_url)
    said = {"adjustment_id": "a1", "reason": INTERNAL, "operator": "alice.smith", "ticket": 4711}
    noted = {} if note is None else {"merchant_note": note}
    await happened(database, M1, 1, "credits.adjusted", -20, cause, **said, **noted)

    reply = await node.nodes[0].get(PATH, SHOP)

    (entry,) = reply.data
    assert entry["cause"] == {"origin": "operator"}
    assert entry["data"] == {"merchant_id": M1, "adjustment_id": "a1", "credits": 20, **noted}
    assert entry["correlation_id"] is None
    for hidden in ("alice", "4711", "corp.example", "billing.commands", "@42"):
        assert hidden.encode() not in reply.raw


@pytest.mark.parametrize(
    ("cause", "origin"),
    [
        ("timer", "timer"),
        (f"t.{COMMANDS}[1]@42", "system"),
        ("evt.merchant.created.v1[0]@7", "system"),
        ("operator", "operator"),
        ("a worker of a later release", "system"),
        (None, "system"),
    ],
)
async def test_an_event_of_an_unknown_type_shows_nothing_of_its_own(
    node: Cluster, database: Any, postgres_url: str, cause: str | None, origin: str
) -> None:
    await migrate(postgres_url)
    await happened(database, M1, 1, "trial.prolonged", 0, cause, reason=INTERNAL, by="alice")

    reply = await node.nodes[0].get(PATH, SHOP)

    (entry,) = reply.data
    assert (entry["cause"], entry["data"]) == ({"origin": origin}, {"merchant_id": M1})
    assert b"4711" not in reply.raw
    assert b"alice" not in reply.raw


async def test_no_answer_to_a_merchant_shows_what_an_operator_wrote(two: Cluster) -> None:
    await two.create(M1, SHOP)
    body = {
        "merchant_id": M1,
        "credits": 30,
        "reason": INTERNAL,
        "merchant_note": "A gift",
        "idempotency_key": "ticket-4711",
    }
    headers = operator_headers("alice.smith@corp.example")
    url = two.nodes[0].url
    assert (await get(url, "/internal/adjustments", headers, method="POST", json=body)).data
    own = operator_headers("alice.smith@corp.example") | {"X-Shop-Domain": SHOP}

    answers = [
        await two.nodes[0].get(path, SHOP)
        for path in (
            *("/api/billing", "/api/billing/trials", "/api/billing/purchases", PATH),
            *("/api/billing/purchases/x", "/internal/adjustments", "/ops", "/openapi.json"),
        )
    ]
    answers.append(await two.nodes[0].post("/internal/adjustments", SHOP, body))
    answers.append(await two.nodes[0].post("/api/billing/purchases", SHOP, {"pack": "none"}))
    answers.append(await get(url, "/api/billing", own))

    for reply in answers:
        for hidden in (b"alice", b"fraud suspicion", b"dlq.billing", b"credits.adjusted.v1["):
            assert hidden not in reply.raw, reply.body
    assert two.events("credits.adjusted")[0]["merchant_note"] == "A gift"


async def test_it_comes_in_pages_and_balances_count_what_came_before(
    node: Cluster, database: Any, postgres_url: str
) -> None:
    await migrate(postgres_url)
    for sequence in range(1, 26):
        await happened(database, M1, sequence, "credits.purchased", 100, "timer")

    first = await node.nodes[0].get(PATH, SHOP)
    last = await node.nodes[0].get(f"{PATH}/?page=4&limit=7", SHOP)
    beyond = await node.nodes[0].get(f"{PATH}?page=9", SHOP)
    nothing = await node.nodes[0].get(PATH, OTHER)
    wrong = await node.nodes[0].get(f"{PATH}?limit=0", SHOP)

    assert [entry["sequence"] for entry in first.data] == list(range(25, 15, -1))
    assert [entry["balance_after"] for entry in last.data] == [400, 300, 200, 100]
    assert last.body["pagination"] == {
        "page": 4,
        "limit": 7,
        "total": 25,
        "total_pages": 4,
        "next_cursor": None,
    }
    assert beyond.data == []
    assert beyond.body["pagination"]["total"] == 25
    assert nothing.data == []
    assert nothing.body["pagination"]["total"] == 0
    assert (wrong.status, wrong.code) == (422, "VALIDATION_ERROR")


async def test_a_cursor_gives_each_entry_once_while_more_happens(
    node: Cluster, database: Any, postgres_url: str
) -> None:
    await migrate(postgres_url)
    for sequence in range(1, 13):
        await happened(database, M1, sequence, "credits.purchased", 100, "timer")

    read: list[tuple[int, int]] = []
    added, cursor = 12, cast("str | None", "")
    while cursor is not None:
        reply = await node.nodes[0].get(f"{PATH}?limit=5{cursor}", SHOP)
        read += [(entry["sequence"], entry["balance_after"]) for entry in reply.data]
        added += 1
        await happened(database, M1, added, "credits.purchased", 100, "timer")
        following = reply.body["pagination"]["next_cursor"]
        cursor = None if following is None else f"&cursor={following}"

    assert read == [(sequence, 100 * sequence) for sequence in range(12, 0, -1)]
    assert reply.body["pagination"]["page"] == 3
    for wrong in ("1", "x", cursor_after("purchases", M1), cursor_after("history", "0")):
        reply = await node.nodes[0].get(f"{PATH}?cursor={wrong}", SHOP)
        (detail,) = reply.body["error"]["details"]
        assert (reply.status, detail["field"]) == (422, "cursor")


async def test_entries_after_a_missing_event_are_not_complete(
    node: Cluster, database: Any, postgres_url: str
) -> None:
    await migrate(postgres_url)
    for sequence in (1, 2, 4, 5):
        await happened(database, M1, sequence, "credits.purchased", 100, "timer")

    first = await node.nodes[0].get(f"{PATH}?limit=3", SHOP)
    second = await node.nodes[0].get(f"{PATH}?limit=3&page=2", SHOP)

    found = [(entry["sequence"], entry["complete"]) for entry in first.data + second.data]
    assert found == [(5, False), (4, False), (2, True), (1, True)]


async def test_only_a_client_of_the_shop_reads_it(node: Cluster, postgres_url: str) -> None:
    await migrate(postgres_url)

    unknown = await node.nodes[0].get(PATH, "nobody.example")
    nobody = await node.nodes[0].get(PATH)

    assert (unknown.status, unknown.code) == (404, "MERCHANT_NOT_FOUND")
    assert (nobody.status, nobody.code) == (401, "UNAUTHORIZED")


def is_not_ready(reply: Any, why: str) -> bool:
    """Whether it says so, why, and when to come again."""
    message = reply.body["error"]["message"]
    assert (reply.status, reply.code) == (503, "NOT_READY"), reply.body
    assert why in message
    assert "Billing itself continues" in message
    return int(reply.headers["Retry-After"]) >= 1


async def test_without_a_projection_billing_goes_on(two: Cluster, node: Cluster) -> None:
    await two.create(M1, SHOP)

    unset = await two.nodes[0].get(PATH, SHOP)
    empty = await node.nodes[0].get(PATH, SHOP)

    assert is_not_ready(unset, "DATABASE_URL is not set")
    assert is_not_ready(empty, "no projector has run")
    assert (await two.nodes[0].get("/api/billing", SHOP)).status == 200
    assert (await node.nodes[0].get("/api/billing", SHOP)).status == 200


async def test_a_database_that_is_away_is_said_so_without_its_password(tmp_path: Path) -> None:
    url = f"postgresql://billing:very-secret@127.0.0.1:{free_port()}/billing"
    async with cluster(str(tmp_path), {0: [0, 1, 2, 3]}, DATABASE_URL=url) as found:
        await found.create(M1, SHOP)

        replies = [await found.nodes[0].get(PATH, SHOP) for _ in range(3)]

        assert all(is_not_ready(reply, "does not answer") for reply in replies)
        assert not any(b"secret" in reply.raw for reply in replies)
        assert (await found.nodes[0].get("/api/billing", SHOP)).status == 200


async def test_hanging_database_delays_nothing_else_and_is_used_again(
    node: Cluster, database: Any, postgres_url: str
) -> None:
    await migrate(postgres_url)
    await happened(database, M1, 1, "credits.purchased", 100, "timer")
    assert (await node.nodes[0].get(PATH, SHOP)).status == 200
    lock = database.transaction()
    await lock.start()
    await database.execute("LOCK TABLE billing_events IN ACCESS EXCLUSIVE MODE")

    asked = [asyncio.create_task(node.nodes[0].get(PATH, SHOP)) for _ in range(12)]
    meanwhile = 0
    while not all(task.done() for task in asked):
        assert (await node.nodes[0].get("/api/billing", SHOP)).status == 200
        meanwhile += 1
        await asyncio.sleep(0.02)
    replies = [task.result() for task in asked]
    await lock.rollback()

    assert all(is_not_ready(reply, "does not answer") for reply in replies)
    assert meanwhile >= 5
    end = time.monotonic() + 30
    while (reply := await node.nodes[0].get(PATH, SHOP)).status != 200:
        assert time.monotonic() < end, reply.body
        await asyncio.sleep(0.2)
    assert [entry["sequence"] for entry in reply.data] == [1]
