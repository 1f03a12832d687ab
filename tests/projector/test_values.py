"""U+0000 in any text, and numbers beyond 32 bits: nothing is lost, and nothing blocks."""

import json
from typing import Any

import asyncpg
import pytest

from billing_stream.projector import positions
from billing_stream.projector.migrate import migrate
from billing_stream.projector.projected_records import NUL_MARK, without_nul
from billing_stream.projector.writing import write
from tests.projector.test_writing import batch, connection, event, merchant, project, purchase
from tests.support.partition import Record

__all__ = ["connection"]

BILLION = 1_000_000_000
BIG = 5 * BILLION


def with_cause(record: Record, cause: bytes) -> Record:
    record.headers = [("sequence", b"1"), ("cause", cause)]
    return record


async def test_nul_in_a_text_of_a_purchase_is_marked(connection: Any) -> None:
    fields = {"platform": "sh\0pify", "platform_charge_id": "\0c\0"}

    await project(connection, purchase(0, "pend\0ing", 1, **fields))

    row = await connection.fetchrow("SELECT * FROM credit_purchases")
    assert row["status"] == f"pend{NUL_MARK}ing"
    assert row["platform"] == f"sh{NUL_MARK}pify"
    assert row["platform_charge_id"] == f"{NUL_MARK}c{NUL_MARK}"


async def test_nul_in_a_text_of_an_event_is_marked(connection: Any) -> None:
    told = event(0, 1, "trial.started", 1, credits=500, **{"na\0me": ["x\0", {"y": "\0"}]})
    envelope = json.loads(told.value or b"")
    told.value = json.dumps({**envelope, "correlation_id": "a\0b", "event_type": "t\0"}).encode()

    await project(connection, with_cause(told, b"ht\0tp"))

    row = await connection.fetchrow("SELECT * FROM billing_events")
    assert row["correlation_id"] == f"a{NUL_MARK}b"
    assert row["event_type"] == f"t{NUL_MARK}"
    assert row["cause"] == f"ht{NUL_MARK}tp"
    assert json.loads(row["data"])[f"na{NUL_MARK}me"] == [f"x{NUL_MARK}", {"y": NUL_MARK}]


def test_only_an_escaped_nul_is_marked() -> None:
    for text in ('{"a": "\\\\u0000"}', '{"a": "u0000"}', '{"a": "\\\\\\\\u0000 \\u0001"}'):
        assert without_nul(text.encode()) == text.encode()
    marked = json.loads(without_nul(b'{"a": "\\\\\\u0000\\u0000"}') or b"")
    assert marked == {"a": f"\\{NUL_MARK}{NUL_MARK}"}


@pytest.mark.parametrize(
    "bad",
    [
        purchase(0, "pending", 1, merchant_id="no\0uuid"),
        purchase(0, "pending", 1, amount="9\0.99"),
        event(0, 1, "trial.started", 1, credits=500, merchant_id="\0"),
    ],
    ids=["uuid", "numeric", "uuid of an event"],
)
async def test_nul_in_what_is_no_text_is_refused_by_its_column(
    connection: Any, bad: Record
) -> None:
    made = batch(bad)
    await positions.add(connection, made.begins)

    with pytest.raises(asyncpg.DataError):
        await write(connection, made)


async def test_totals_are_of_64_bits(connection: Any) -> None:
    await project(
        connection,
        merchant(0, BIG, 1, credits_adjusted=-BIG),
        purchase(0, "completed", 1, credits=BIG, completed_at="2026-01-01T00:00:00Z"),
        *(
            event(offset, offset, "credits.imported", offset + 1, credits=BIG, amount=f"{BIG}.00",
                  purchase_id=purchase(0, "pending", 1).key.decode())  # type: ignore[union-attr]
            for offset in range(3)
        ),
    )  # fmt: skip

    row = await connection.fetchrow("SELECT * FROM billing_records")
    (bought,) = await connection.fetch("SELECT credits FROM credit_purchases")
    balances = await connection.fetch("SELECT balance_after FROM billing_history ORDER BY sequence")
    (day,) = await connection.fetch("SELECT credits, revenue FROM billing_revenue_daily")
    assert (row["total_credits_purchased"], row["credits_adjusted"]) == (BIG, -BIG)
    assert bought["credits"] == day["credits"] == BIG
    assert [b["balance_after"] for b in balances] == [BIG, 2 * BIG, 3 * BIG]
    assert day["revenue"] == 3 * BIG


async def test_a_history_with_a_hole_is_not_complete_after_it(connection: Any) -> None:
    await project(
        connection,
        *(event(n, n, "trial.expired", sequence) for n, sequence in enumerate([1, 2, 4, 5])),
    )

    found = await connection.fetch("SELECT complete FROM billing_history ORDER BY sequence")

    assert [row["complete"] for row in found] == [True, True, False, False]


VIEWS = (
    "CREATE VIEW theirs.totals AS SELECT merchant_id, total_credits_purchased AS total "
    "FROM billing_records",
    "CREATE VIEW theirs.rich WITH (security_barrier=true) AS "
    "SELECT t.*, p.credits FROM theirs.totals t JOIN credit_purchases p USING (merchant_id)",
    "COMMENT ON VIEW theirs.rich IS 'Don''t drop'",
)


@pytest.fixture
async def first_version(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A database of the release before, with a merchant."""
    from alembic import command

    upgrade = command.upgrade
    monkeypatch.setattr(command, "upgrade", lambda config, _: upgrade(config, "0001"))
    assert await migrate(postgres_url) == ["0001"]
    monkeypatch.undo()
    made = await asyncpg.connect(postgres_url)
    await made.execute(
        "INSERT INTO billing_records VALUES ('00000000-0000-4000-8000-000000000001', true, NULL, "
        "NULL, 2000000000, NULL, now(), now(), 0, 1)"
    )
    yield made
    await made.close()


async def test_a_database_of_the_release_before_is_widened_with_its_views(
    first_version: Any, postgres_url: str
) -> None:
    role = postgres_url.rsplit("/", 1)[1] + "_reader"
    await first_version.execute("CREATE SCHEMA theirs")
    for statement in (*VIEWS, f"CREATE ROLE {role}", f"GRANT SELECT ON theirs.rich TO {role}"):
        await first_version.execute(statement)

    done = await migrate(postgres_url)
    await project(first_version, merchant(0, BIG, 2))
    try:
        (total,) = await first_version.fetch("SELECT total FROM theirs.totals")
        kept = await first_version.fetchrow(
            "SELECT has_table_privilege($1, 'theirs.rich', 'SELECT') AS granted, reloptions, "
            "obj_description(oid, 'pg_class') AS comment FROM pg_class WHERE relname = 'rich'",
            role,
        )
        types = await first_version.fetch(
            "SELECT DISTINCT data_type FROM information_schema.columns "
            "WHERE column_name IN ('total_credits_purchased', 'credits_adjusted', 'credits', "
            "'total')"
        )
    finally:
        await first_version.execute(f"DROP OWNED BY {role}")
        await first_version.execute(f"DROP ROLE {role}")

    assert done == ["0002", "0003", "0004", "0010"]
    assert total["total"] == BIG
    assert [row["data_type"] for row in types] == ["bigint"]
    assert kept["granted"]
    assert kept["comment"] == "Don't drop"
    assert kept["reloptions"] == ["security_barrier=true"]


async def test_a_materialized_view_on_a_total_is_named_before_the_upgrade(
    first_version: Any, postgres_url: str
) -> None:
    from billing_stream.projector.projector_errors import ProjectionError

    await first_version.execute(
        "CREATE MATERIALIZED VIEW kept AS SELECT sum(total_credits_purchased) FROM billing_records"
    )

    with pytest.raises(ProjectionError, match=r"public\.kept"):
        await migrate(postgres_url)
