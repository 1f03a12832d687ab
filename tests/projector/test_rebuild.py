"""`projector rebuild`: a fresh copy beside the live one, swapped in while all goes on."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from billing_stream.projector.migrate import migrate
from billing_stream.projector.swap import swap
from tests.support.projection import (
    all_there,
    committed_log,
    create_topics,
    execute,
    fetch,
    projector,
    projector_environment,
    until,
    write_in_pieces,
)
from tests.support.worker import run

pytestmark = pytest.mark.timeout(240)
# Others may use the machine.
SECONDS_MAX = 120.0


@pytest.mark.full
async def test_a_rebuild_mends_the_tables_while_projectors_go_on(
    kafka: str, prefix: str, folder: Path, postgres_url: str
) -> None:
    await create_topics(kafka, prefix)
    log = committed_log(kafka, prefix, 100)
    env = projector_environment(kafka, prefix, postgres_url)

    async with projector(env, folder) as process:
        await log.write(1_000)
        await until(partial(all_there, postgres_url, log), SECONDS_MAX, "projected")
        await execute(
            postgres_url,
            "UPDATE billing_records SET total_credits_purchased = 1, version = version + 1000",
            "DELETE FROM billing_events",
        )
        writing = asyncio.create_task(write_in_pieces(log, 5, 200))
        code, output = await run(env, "projector", "rebuild")
        await writing
        await until(partial(all_there, postgres_url, log), SECONDS_MAX, "mended, and complete")
        # The projector that ran before the swap goes on after it, in the new tables.
        await log.write(200)
        await until(partial(all_there, postgres_url, log), SECONDS_MAX, "it goes on")
        assert await process.stop() == 0
    left = await fetch(postgres_url, "SELECT nspname FROM pg_namespace WHERE nspname ~ '^public_'")

    assert code == 0, output
    assert "schema public was rebuilt" in output
    assert left == []


@pytest.mark.full
async def test_killed_rebuild_keeps_the_live_tables_and_can_be_repeated(
    kafka: str, prefix: str, folder: Path, postgres_url: str
) -> None:
    await create_topics(kafka, prefix)
    log = committed_log(kafka, prefix, 100)
    await log.write(3_000)
    env = projector_environment(kafka, prefix, postgres_url)
    await migrate(postgres_url)
    await migrate(postgres_url, "public_next")
    await execute(
        postgres_url,
        "INSERT INTO projection_positions VALUES ('here', 0, 7)",
        "INSERT INTO public_next.projection_positions VALUES ('half', 0, 7)",
    )

    before = await fetch(postgres_url, "SELECT topic FROM projection_positions")
    code, output = await run(env, "projector", "rebuild")
    after = await fetch(postgres_url, "SELECT topic FROM projection_positions")

    assert before == [{"topic": "here"}]
    assert code == 0, output
    assert {"here", "half"}.isdisjoint(row["topic"] for row in after)
    assert await all_there(postgres_url, log)


async def test_tables_of_another_version_are_rebuilt_and_foreign_ones_are_not(
    kafka: str, prefix: str, postgres_url: str
) -> None:
    await create_topics(kafka, prefix)
    env = projector_environment(kafka, prefix, postgres_url, BILLING_PROJECTION_SCHEMA="reports")
    first = await run(env, "projector", "rebuild")
    await execute(postgres_url, "UPDATE reports.projection_migrations SET version_num = '9999'")
    refused = await run(env, "projector", "migrate")
    again = await run(env, "projector", "rebuild")
    migrated = await run(env, "projector", "migrate")
    await execute(
        postgres_url, "DROP SCHEMA reports CASCADE", "CREATE SCHEMA reports",
        "CREATE TABLE reports.credit_purchases (id uuid)",
    )  # fmt: skip
    others = await run(env, "projector", "rebuild")

    assert (first[0], again[0], migrated[0]) == (0, 0, 0), (first, again, migrated)
    assert (refused[0], others[0]) == (2, 2)
    assert "projector rebuild" in refused[1]
    assert "nothing to do" in migrated[1]
    assert "did not make" in others[1]


async def test_rights_and_views_of_others_are_kept(postgres_url: str) -> None:
    role = postgres_url.rsplit("/", 1)[1]
    await migrate(postgres_url)
    await execute(
        postgres_url,
        f"CREATE ROLE {role}_reader",
        f"GRANT SELECT ON billing_records, billing_history TO {role}_reader",
        f"GRANT SELECT (status) ON credit_purchases TO {role}_reader",
        "CREATE SCHEMA theirs",
        "CREATE VIEW theirs.totals AS SELECT merchant_id, total_credits_purchased AS total "
        "FROM billing_records",
        "CREATE VIEW theirs.rich AS SELECT * FROM theirs.totals WHERE total > 50",
    )
    await migrate(postgres_url, "public_next")
    await execute(postgres_url, f"INSERT INTO public_next.billing_records VALUES {MERCHANT}")

    await do_swap(postgres_url)
    rich = await fetch(postgres_url, "SELECT total FROM theirs.rich")
    try:
        rights = await fetch(
            postgres_url,
            "SELECT has_table_privilege($1, 'billing_records', 'SELECT') AS records, "
            "has_table_privilege($1, 'billing_history', 'SELECT') AS history, "
            "has_table_privilege($1, 'billing_events', 'SELECT') AS events, "
            "has_column_privilege($1, 'credit_purchases', 'status', 'SELECT') AS status, "
            "has_column_privilege($1, 'credit_purchases', 'amount', 'SELECT') AS amount",
            f"{role}_reader",
        )
    finally:
        await execute(postgres_url, f"DROP OWNED BY {role}_reader", f"DROP ROLE {role}_reader")

    assert rich == [{"total": 100}]
    assert rights == [
        {"records": True, "history": True, "events": False, "status": True, "amount": False}
    ]


async def test_a_rebuild_that_would_strand_a_materialized_view_says_so_first(
    kafka: str, prefix: str, postgres_url: str
) -> None:
    await create_topics(kafka, prefix)
    await migrate(postgres_url)
    await execute(
        postgres_url, "CREATE MATERIALIZED VIEW kept AS SELECT count(*) FROM billing_events"
    )

    code, output = await run(
        projector_environment(kafka, prefix, postgres_url), "projector", "rebuild"
    )

    assert code == 2
    assert "public.kept" in output


async def test_a_report_that_runs_is_waited_for(postgres_url: str) -> None:
    await migrate(postgres_url)
    await migrate(postgres_url, "public_next")
    report: Any = await asyncpg.connect(postgres_url)
    transaction = report.transaction()
    await transaction.start()
    await report.fetch("SELECT * FROM billing_records")

    swapping = asyncio.create_task(do_swap(postgres_url))
    await asyncio.sleep(1.5)
    waited = not swapping.done()
    # Others still get their turn.
    other = await asyncio.wait_for(fetch(postgres_url, "SELECT 1 FROM billing_records"), 10)
    await report.fetch("SELECT * FROM credit_purchases")
    await transaction.commit()
    await report.close()
    await swapping

    assert waited
    assert other == []


MERCHANT = """('00000000-0000-4000-8000-000000000001', true, NULL, NULL, 100, NULL,
    now(), now(), 0, 1)"""


async def do_swap(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await swap(connection, "public", "public_next")
    finally:
        await connection.close()
