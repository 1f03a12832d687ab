"""Projector processes, logs to be projected, and what PostgreSQL has of them."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

from bench.committed import CommittedLog
from billing_stream.kafka import topic_admin
from billing_stream.records.topics import Topics
from tests.support.worker import BIN, Worker, environment

APP_ID = "app"
PARTITIONS = 2


def projector_environment(
    kafka: str, prefix: str, database_url: str, **extra: str
) -> dict[str, str]:
    """The environment of a projector of a small app."""
    own = {"BILLING_APP_ID": APP_ID, "BILLING_PARTITIONS": str(PARTITIONS)}
    return environment(kafka, prefix, DATABASE_URL=database_url, **own, **extra)


class ProjectorProcess(Worker):
    """One `billing-stream projector`."""

    def __init__(self, env: Mapping[str, str], folder: Path) -> None:
        super().__init__(env, folder)
        self.command = [str(BIN), "projector"]
        self.env["BILLING_PROJECTOR_PORT"] = str(self.port)

    async def metrics(self) -> dict[str, float]:
        """The metrics; those with labels summed up."""
        found: dict[str, float] = {}
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.url}/metrics") as response,
        ):
            for line in (await response.text()).splitlines():
                if not line.startswith("#"):
                    name, value = line.rsplit(" ", 1)
                    name = name.partition("{")[0]
                    found[name] = found.get(name, 0.0) + float(value)
        return found


@asynccontextmanager
async def projector(env: Mapping[str, str], folder: Path) -> AsyncIterator[ProjectorProcess]:
    """A projector that was started; killed at the end, whatever happened."""
    started = ProjectorProcess(env, folder)
    await started.start()
    try:
        yield started
    finally:
        await started.kill()


async def create_topics(kafka: str, prefix: str) -> Topics:
    """Make the topics of an app under this prefix."""
    topics = Topics(APP_ID, prefix)
    options = {"bootstrap_servers": kafka}
    await topic_admin.create_topics(options, topics.all(), partitions=PARTITIONS, replication=1)
    return topics


def committed_log(kafka: str, prefix: str, merchants: int) -> CommittedLog:
    """A log of purchases, to be written in any number."""
    return CommittedLog(kafka, Topics(APP_ID, prefix), PARTITIONS, merchants)


async def until(done: Callable[[], Awaitable[bool]], seconds: float, what: str) -> float:
    """Wait until it is so; the seconds it took. AssertionError when it takes too long."""
    began = time.monotonic()
    while not await done():
        assert time.monotonic() - began < seconds, f"not after {seconds:.0f} s: {what}"
        await asyncio.sleep(0.1)
    return time.monotonic() - began


async def execute(database_url: str, *statements: str) -> None:
    """Run statements, one after the other."""
    connection: Any = await asyncpg.connect(database_url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def fetch(database_url: str, query: str, *arguments: Any) -> list[dict[str, Any]]:
    """The rows of a query; none while the tables, or PostgreSQL, are not there."""
    try:
        connection = await asyncpg.connect(database_url, timeout=5)
    except (OSError, TimeoutError, asyncpg.PostgresError):
        return []
    try:
        return [dict(row) for row in await connection.fetch(query, *arguments)]
    except asyncpg.UndefinedTableError:
        return []
    finally:
        connection.terminate()


async def all_there(database_url: str, log: CommittedLog) -> bool:
    """Whether every purchase is there once: row, event, and its credits in the total."""
    counted = await fetch(
        database_url,
        "SELECT (SELECT count(*) FROM credit_purchases) AS purchases, "
        "(SELECT count(*) FROM billing_events) AS events",
    )
    if counted != [{"purchases": log.purchases, "events": log.purchases}]:
        return False
    rows = await fetch(
        database_url, "SELECT merchant_id::text, total_credits_purchased FROM billing_records"
    )
    totals = {row["merchant_id"]: row["total_credits_purchased"] for row in rows}
    return totals == log.totals()


async def write_in_pieces(log: CommittedLog, pieces: int, purchases: int) -> None:
    """Write so many purchases again and again, with pauses."""
    for _ in range(pieces):
        await log.write(purchases)
        await asyncio.sleep(0.3)


async def offsets(database_url: str) -> int:
    """How far it was projected, all partitions together."""
    found = await fetch(database_url, "SELECT sum(next_offset) AS sum FROM projection_positions")
    return int(found[0]["sum"] or 0) if found else 0
