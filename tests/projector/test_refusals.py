"""PostgreSQL refuses for a while, or a row until it is repaired; nothing is skipped or lost."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer

from billing_stream.projector import rejects
from billing_stream.projector.migrate import migrate
from billing_stream.projector.projected_records import Record
from billing_stream.records.record_ref import RecordRef
from tests.projector.test_writing import RECORDS, connection, event, merchant, project
from tests.support.projection import (
    ProjectorProcess,
    all_there,
    committed_log,
    create_topics,
    execute,
    fetch,
    projector,
    projector_environment,
    until,
)
from tests.support.projection_records import MERCHANT, partition_of_merchant
from tests.support.projection_records import event as encoded_event

__all__ = ["connection"]

pytestmark = pytest.mark.timeout(180)
SECONDS_MAX = 90.0
TRIES = 4

# A sequence is no part of a transaction: it counts those that were rolled back, too.
REFUSE = """
CREATE SEQUENCE refused;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('refused') <= {tries} THEN
        RAISE EXCEPTION 'not now' USING ERRCODE = '{code}';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER refuse AFTER INSERT ON billing_events FOR EACH STATEMENT EXECUTE FUNCTION refuse();
"""


async def problem(process: ProjectorProcess) -> str:
    async with aiohttp.ClientSession() as session, session.get(f"{process.url}/ready") as response:
        return "; ".join((await response.json())["problems"])


async def has_problem(process: ProjectorProcess, text: str) -> bool:
    try:
        return text in await problem(process)
    except aiohttp.ClientError:
        return False


@pytest.mark.parametrize(
    ("code", "named"),
    [
        ("40P01", ""),
        ("40001", ""),
        ("55P03", ""),
        ("25006", "is read-only"),
        ("53100", "has no space left"),
        ("53200", "lacks memory"),
        ("57014", "is away"),
        ("42501", "denies a right"),
    ],
)
async def test_a_refusal_that_passes_loses_nothing(
    kafka: str, prefix: str, folder: Path, postgres_url: str, code: str, named: str
) -> None:
    await create_topics(kafka, prefix)
    log = committed_log(kafka, prefix, 5)
    await migrate(postgres_url)
    await execute(postgres_url, REFUSE.format(code=code, tries=TRIES))
    await log.write(20)

    async with projector(projector_environment(kafka, prefix, postgres_url), folder) as process:
        await until(partial(all_there, postgres_url, log), SECONDS_MAX, "all is there")
        metrics, text = await process.metrics(), process.text()

    assert metrics["billing_projector_database_failures_total"] >= TRIES
    assert metrics["billing_projector_rejects_total"] == 0
    if named:
        assert f"PostgreSQL {named}" in text
    else:
        assert "PostgreSQL" not in text, text


async def test_a_read_only_postgres_is_named_until_it_takes_rows_again(
    kafka: str, prefix: str, folder: Path, postgres_url: str
) -> None:
    await create_topics(kafka, prefix)
    log = committed_log(kafka, prefix, 5)
    name = postgres_url.rsplit("/", 1)[1]
    ended = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' "
    ended += "AND pid <> pg_backend_pid()"

    async with projector(projector_environment(kafka, prefix, postgres_url), folder) as process:
        await log.write(20)
        await until(partial(all_there, postgres_url, log), SECONDS_MAX, "before")
        # As after a failover: connections are cut, and the server there is a standby.
        await execute(
            postgres_url,
            f"ALTER DATABASE {name} SET default_transaction_read_only = on",
            ended,
        )
        await log.write(20)
        await until(partial(has_problem, process, "is read-only"), SECONDS_MAX, "named")
        await execute(
            postgres_url,
            "SET default_transaction_read_only = off",
            f"ALTER DATABASE {name} RESET default_transaction_read_only",
        )
        await until(partial(all_there, postgres_url, log), SECONDS_MAX, "all is there")
        assert await process.stop() == 0


async def test_a_dropped_table_is_named_and_nothing_is_skipped(
    kafka: str, prefix: str, folder: Path, postgres_url: str
) -> None:
    await create_topics(kafka, prefix)
    log = committed_log(kafka, prefix, 5)

    async with projector(projector_environment(kafka, prefix, postgres_url), folder) as process:
        await process.ready(SECONDS_MAX)
        await execute(postgres_url, "ALTER TABLE billing_events RENAME TO elsewhere")
        await log.write(20)
        await until(partial(has_problem, process, "projector rebuild"), SECONDS_MAX, "named")
        await execute(postgres_url, "ALTER TABLE elsewhere RENAME TO billing_events")
        await until(partial(all_there, postgres_url, log), SECONDS_MAX, "all is there")


@pytest_asyncio.fixture
async def rejected(connection: Any) -> Any:
    """An event that did not fit, since a trigger refused it; and then was repaired."""
    told = event(0, 7, "trial.expired", 1)
    headers = '[["sequence","MQ=="],["cause","aHR0cA=="]]'
    await connection.execute(
        "INSERT INTO projection_rejects VALUES ($1, 0, 0, 'why', $2, $3, now(), $4)",
        told.topic, told.key, told.value, headers,
    )  # fmt: skip
    return connection


async def test_a_reject_that_fits_now_is_written_and_removed(rejected: Any) -> None:
    fitted = await rejects.retry(rejected, RECORDS, None)

    (row,) = await rejected.fetch("SELECT sequence, cause FROM billing_events")
    assert fitted == 1
    assert (row["sequence"], row["cause"]) == (1, "http")
    assert await rejects.count(rejected) == 0


async def test_a_reject_that_still_fits_nowhere_is_kept_with_its_reason(rejected: Any) -> None:
    await rejected.execute("UPDATE projection_rejects SET value = 'no json'")

    assert await rejects.retry(rejected, RECORDS, None) == 0
    assert await rejects.retry(rejected, RECORDS, None) == 0

    (row,) = await rejected.fetch("SELECT reason, tried_at FROM projection_rejects")
    assert "malformed" in row["reason"]
    assert row["tried_at"] is not None


async def test_a_row_rejected_long_ago_does_not_replace_a_newer_one(connection: Any) -> None:
    old = merchant(0, 100, 1)
    await project(connection, merchant(0, 200, 2))
    await connection.execute(
        "INSERT INTO projection_rejects VALUES ($1, 0, 0, 'why', $2, $3, now(), '[]')",
        old.topic, old.key, old.value,
    )  # fmt: skip

    assert await rejects.retry(connection, RECORDS, None) == 1

    (row,) = await connection.fetch("SELECT total_credits_purchased FROM billing_records")
    assert row["total_credits_purchased"] == 200


async def test_what_an_older_release_kept_without_headers_is_read_again(rejected: Any) -> None:
    await rejected.execute("UPDATE projection_rejects SET headers = NULL")
    told = event(0, 7, "trial.expired", 1)

    async def reread(refs: Sequence[RecordRef]) -> dict[RecordRef, Record | None]:
        return dict.fromkeys(refs, told)

    assert await rejects.retry(rejected, RECORDS, reread) == 1


async def test_a_running_projector_heals_rejects_of_an_older_release(
    kafka: str, prefix: str, folder: Path, postgres_url: str
) -> None:
    topics = await create_topics(kafka, prefix)
    value, headers = encoded_event(MERCHANT, 1, "trial.expired", expired_at="2026-01-01T00:00:00Z")
    topic = topics.name("evt.billing.trial.expired.v1")
    async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
        await producer.send_and_wait(
            topic, value, key=b"m", partition=partition_of_merchant(MERCHANT), headers=headers
        )
    await migrate(postgres_url)
    await execute(
        postgres_url,
        f"INSERT INTO projection_positions VALUES ('{topic}', 0, 1)",
        'INSERT INTO projection_rejects (topic, partition, "offset", reason, key, value) '
        f"VALUES ('{topic}', 0, 0, 'NUL', 'm', '{value.decode()}')",
    )

    async with projector(projector_environment(kafka, prefix, postgres_url), folder) as process:
        await until(partial(is_healed, postgres_url), SECONDS_MAX, "healed")
        await until(partial(counted, process), SECONDS_MAX, "counted")


async def is_healed(url: str) -> bool:
    found = await fetch(
        url,
        "SELECT (SELECT count(*) FROM billing_events) AS events, "
        "(SELECT count(*) FROM projection_rejects) AS rejects",
    )
    return found == [{"events": 1, "rejects": 0}]


async def counted(process: ProjectorProcess) -> bool:
    metrics = await process.metrics()
    fixed = metrics["billing_projector_rejects_fixed_total"]
    return fixed == 1 and metrics["billing_projector_rejects_open"] == 0
