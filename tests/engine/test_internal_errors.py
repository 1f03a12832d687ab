"""A rule that fails on a record, a request or a deadline leaves out that one, and no other."""

import asyncio
import logging
from datetime import timedelta
from typing import Any, cast

import pytest

from billing_stream.domain.commands import StartTrial
from billing_stream.domain.decide import decide
from billing_stream.domain.outcomes import TimedReply, TrialGranted
from billing_stream.engine.partition_processor import Request, RequestFailed
from billing_stream.engine.poison import PoisonLimits
from billing_stream.observability.metrics.transaction_metrics import TransactionMetrics
from billing_stream.observability.metrics.worker_metrics import WorkerMetrics
from billing_stream.records import topics as names
from tests.support.partition import START, TOPICS, Partition, record
from tests.support.world import M1, M2

pytestmark = pytest.mark.logs_errors


class Failing:
    """Rules that fail for one merchant, while they are told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, merchant: str = M1) -> None:
        self.merchant: str | None = merchant
        self.asked = 0
        monkeypatch.setattr("billing_stream.processor.decide", self._decide)

    def _decide(self, state: Any, command: Any, now: Any) -> Any:
        if command.merchant_id == self.merchant:
            self.asked += 1
            raise ZeroDivisionError
        return decide(state, command, now)


class Counted(TransactionMetrics):
    """Counts as a worker does."""

    def __init__(self) -> None:
        metrics = WorkerMetrics()
        super().__init__(metrics, TOPICS)
        self.registry = metrics.registry

    def of(self, source: str) -> float:
        """Failures on records, requests or timers."""
        labels = {"source": source}
        return self.registry.get_sample_value("billing_internal_errors_total", labels) or 0.0


async def partition_of(*merchants: str) -> tuple[Partition, Counted]:
    """A partition with these merchants."""
    partition, counted = Partition(), Counted()
    await partition.restart()
    partition.lane._observer = counted
    for offset, merchant in enumerate(merchants):
        await partition.feed(created(offset, merchant))
    return partition, counted


def created(offset: int, merchant: str) -> Any:
    fields = {"merchant_id": merchant, "platform_name": "shopify", "domain": f"{merchant[:4]}.io"}
    return record(names.MERCHANT_CREATED, offset, fields)


def trial(merchant: str) -> Request:
    return Request(StartTrial(merchant, f"start/{merchant}", "key-1"), "http", "c-1")


async def tick(partition: Partition) -> None:
    """As the timers do, until the lane is at rest."""
    partition.lane.wake_if_due()
    for _ in range(20):
        await asyncio.sleep(0)


async def test_failed_request_stores_nothing_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    partition, counted = await partition_of(M1, M2)
    failing = Failing(monkeypatch)
    before = partition.rows()
    bad, good = partition.lane.ask(trial(M1)), partition.lane.ask(trial(M2))
    with pytest.raises(RequestFailed, match="nothing was done"):
        await bad
    await good

    assert partition.rows()["merchants"][M1] == before["merchants"][M1]
    assert M1 not in partition.rows()["answers"]
    assert [e["command"]["merchant_id"] for e in partition.journal()] == [M2]
    assert counted.of("request") == 1
    (line,) = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert M1 in line.getMessage()

    failing.merchant = None
    # The key is free.
    answered = cast(TimedReply, await partition.lane.ask(trial(M1)))
    assert isinstance(answered.reply, TrialGranted)
    assert partition.deaths.causes == []


async def test_failed_record_counts_towards_the_poison_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    partition = Partition()
    partition.poison = PoisonLimits(in_a_row=2)
    await partition.restart()
    Failing(monkeypatch)
    for offset in range(3):
        await partition.feed(created(offset, M1))
    stopped = partition.lane.stopped[names.MERCHANT_CREATED]
    assert stopped.reason == "3 invalid records in a row"


async def test_failed_record_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    partition, counted = await partition_of()
    Failing(monkeypatch)
    await partition.feed(created(0, M1))
    assert counted.of("record") == 1


async def test_failed_deadline_is_tried_again_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    partition, counted = await partition_of(M1, M2)
    await partition.lane.ask(trial(M1))
    await partition.lane.ask(trial(M2))
    failing = Failing(monkeypatch)
    ends = START + timedelta(days=14)
    partition.now = ends
    await tick(partition)

    assert [e["data"]["merchant_id"] for e in partition.events("trial.expired")] == [M2]
    # A second later, then two, then four; and never sooner, whatever wakes the lane.
    tried = []
    for seconds in range(40):
        before, partition.now = failing.asked, ends + timedelta(seconds=seconds)
        await tick(partition)
        tried += [seconds] * (failing.asked - before)
    assert tried == [1, 3, 7, 15, 31]
    assert counted.of("timer") == 6
    (line,) = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert M1 in line.getMessage()

    failing.merchant = None
    partition.now = ends + timedelta(seconds=63)
    await tick(partition)
    assert len(partition.events("trial.expired")) == 2
    assert partition.deaths.causes == []


async def test_failed_deadline_is_tried_at_least_every_five_minutes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    partition, _ = await partition_of(M1)
    await partition.lane.ask(trial(M1))
    failing = Failing(monkeypatch)
    partition.now = START + timedelta(days=14)
    for _ in range(30):
        await tick(partition)
        partition.now += timedelta(minutes=5)
    assert failing.asked == 30
    await partition.restart()
    assert partition.lane.processor.next_due() == START + timedelta(days=11)
