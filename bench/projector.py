"""Rows per second that one projector process brings from Kafka into PostgreSQL."""

import asyncio
import sys
import time
from typing import Any

import aiohttp
import asyncpg
import psutil

from bench.committed import ROWS_PER_PURCHASE, CommittedLog
from bench.setting import Setting, say
from billing_stream.dev.server_process import free_port

RUN_SECONDS_MAX = 300.0
LOOK_SECONDS = 0.1
COUNTS = """
SELECT (SELECT count(*) FROM billing_events) AS events,
    (SELECT count(*) FROM credit_purchases) AS purchases,
    (SELECT count(*) FROM billing_records) AS merchants,
    (SELECT sum(total_credits_purchased) FROM billing_records) AS credits,
    (SELECT count(*) FROM projection_rejects) AS rejects
"""


async def measure(setting: Setting, *, database_url: str, purchases: int) -> dict[str, float]:
    """Rows per second, each purchase of a merchant of its own, so that no row is written twice.

    From the first rows that were seen to the last. Raises RuntimeError unless all of it is in
    PostgreSQL, once.
    """
    await setting.create_topics()
    log = CommittedLog(setting.kafka, setting.topics, setting.partitions, purchases)
    say(f"writing {purchases} purchases, {ROWS_PER_PURCHASE} rows each")
    await log.write(purchases)
    port = free_port()
    env = {
        **setting.environment(),
        "DATABASE_URL": database_url,
        "BILLING_PROJECTOR_PORT": str(port),
    }
    say("projecting them")
    file = setting.folder / "projector.log"
    with file.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "billing_stream", "projector",
            env=env, stdout=output, stderr=output,
        )  # fmt: skip
    rows = purchases * ROWS_PER_PURCHASE
    try:
        first, seconds = await _follow(port, rows)
        used = psutil.Process(process.pid).cpu_times()
    except RuntimeError as error:
        raise RuntimeError(f"{error}; its log ends:\n{file.read_text()[-3000:]}") from None
    finally:
        process.terminate()
        await process.wait()
    await _check(database_url, purchases, sum(log.totals().values()))
    return {
        "rows_per_s": (rows - first) / seconds,
        "rows": rows,
        "seconds": seconds,
        # With its start; on a machine that others use, this says more than the rate.
        "cpu_us_per_row": (used.user + used.system) / rows * 1e6,
    }


async def _follow(port: int, rows: int) -> tuple[int, float]:
    """The rows that were there when some were seen first, and the seconds until all were."""
    first, first_at = 0, 0.0
    end = time.monotonic() + RUN_SECONDS_MAX
    while time.monotonic() < end:
        done = await _rows(port)
        now = time.monotonic()
        if done and not first:
            first, first_at = done, now
        if done >= rows:
            if first == done:
                raise RuntimeError("too few rows to measure: all of them came at once")
            return first, now - first_at
        await asyncio.sleep(LOOK_SECONDS)
    raise RuntimeError(f"not projected after {RUN_SECONDS_MAX:.0f} s")


async def _rows(port: int) -> int:
    """Rows that the projector has committed, by its own metrics."""
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{port}/metrics") as response,
        ):
            lines = (await response.text()).splitlines()
    except aiohttp.ClientError:
        return 0
    ours = [line for line in lines if line.startswith("billing_projector_rows_total{")]
    return sum(int(float(line.rsplit(" ", 1)[1])) for line in ours)


async def _check(database_url: str, purchases: int, credits: int) -> None:
    connection: Any = await asyncpg.connect(database_url)
    try:
        found = dict(await connection.fetchrow(COUNTS))
    finally:
        await connection.close()
    each = {"events": purchases, "purchases": purchases, "merchants": purchases}
    if found != {**each, "credits": credits, "rejects": 0}:
        raise RuntimeError(f"the projection has {found} of {purchases} purchases")
