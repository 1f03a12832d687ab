"""Real workers with rows in RocksDB: they end hard, partitions move, and all happens once."""

import asyncio
from pathlib import Path

import pytest

from billing_stream.engine.crash_points import CrashPoint
from tests.crashes.test_on_kafka import MERCHANTS, scene
from tests.crashes.workers import check_lag, until

ROCKSDB = {"BILLING_STORE": "rocksdb", "BILLING_STORE_CACHE_MB": "32"}

pytestmark = [pytest.mark.full, pytest.mark.timeout(400)]


def databases(folder: Path) -> list[Path]:
    """What is on the disk of all workers, of which partition."""
    return sorted(found.parent for found in folder.rglob("store/*/*/*/CURRENT"))


async def test_a_worker_that_ends_between_its_commit_and_its_rows_has_them_after_it(
    kafka: str, prefix: str, folder: Path
) -> None:
    async with scene(kafka, prefix, folder, "one", **ROCKSDB) as found:
        (worker,) = found.workers
        for point in (
            CrashPoint.SENT,
            CrashPoint.COMMITTED,
            CrashPoint.APPLIED,
            CrashPoint.RECOVERING,
        ):
            await found.traffic.merchants(MERCHANTS)
            await worker.start_to_crash(point)
            await worker.crashed()
            left = databases(folder)
            assert left, f"nothing was on the disk at {point}"
            for database in left:
                # Whatever a crash leaves behind: nothing of it is read again.
                (database / "CURRENT").write_text("what a disk may do\n")

            await worker.start()
            await found.verify(point)
            await worker.kill()

        await worker.start()
        await worker.ready()
        await until(lambda: check_lag(found.audit))
        assert await worker.stop() == 0
        assert databases(folder) == []


async def test_partitions_that_go_away_and_come_back_have_what_happened_in_between(
    kafka: str, prefix: str, folder: Path
) -> None:
    async with scene(kafka, prefix, folder, "one", "two", **ROCKSDB) as found:
        one, two = found.workers
        await one.start()
        await one.ready()
        for _ in range(2):
            await found.traffic.merchants(MERCHANTS)
            await two.start()
            await two.ready()
            await found.traffic.merchants(MERCHANTS)
            await two.stop()
            await asyncio.sleep(1)
            assert one.running, one.tail()

        await found.verify(CrashPoint.APPLIED)
        await until(lambda: check_lag(found.audit))
