"""A fetch is sent when a transaction can have its records, and not twice for one."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from billing_stream.engine.commit_scheduler import COMMIT_INTERVAL_SECONDS, CommitScheduler
from billing_stream.faust_adapter.fetch_times import FETCH_SECONDS, seconds_to_fetch

SOON = COMMIT_INTERVAL_SECONDS - FETCH_SECONDS


class Worker:
    """Two lanes, and a loop whose time a test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: self.now)
        self.scheduler = CommitScheduler()
        self.waiting = 0

    async def begin(self) -> None:
        """Begin a transaction, and end it."""
        async with self.scheduler.turn(1):
            pass

    @property
    def seconds(self) -> float:
        """How long nothing need be fetched."""
        lanes: Any = {n: SimpleNamespace(records_waiting=n * self.waiting) for n in range(2)}
        found = type("Lanes", (dict,), {"scheduler": self.scheduler})(lanes)
        return seconds_to_fetch(found)


@pytest.fixture
async def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    return Worker(monkeypatch)


async def test_an_idle_worker_fetches_at_once(worker: Worker) -> None:
    assert worker.seconds == 0


async def test_records_are_fetched_shortly_before_a_transaction(worker: Worker) -> None:
    await worker.begin()

    assert worker.seconds == pytest.approx(SOON)
    worker.now += SOON + 0.001
    assert worker.seconds == 0


async def test_an_early_fetch_is_followed_by_one_more_before_it(worker: Worker) -> None:
    await worker.begin()
    worker.waiting = 1

    assert worker.seconds == pytest.approx(SOON)


async def test_when_the_next_has_its_records_they_are_for_the_one_after(worker: Worker) -> None:
    await worker.begin()
    worker.waiting = 1

    worker.now += SOON + 0.001

    assert worker.seconds == pytest.approx(COMMIT_INTERVAL_SECONDS - 0.001)


async def test_a_long_transaction_holds_back_no_fetch(worker: Worker) -> None:
    await worker.begin()
    worker.waiting = 1

    worker.now += 2 * COMMIT_INTERVAL_SECONDS

    assert worker.seconds == 0
