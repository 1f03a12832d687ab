"""The last hour of a worker, by minutes, in bounded memory."""

import asyncio

from billing_stream.observability.metrics.worker_metrics import WorkerMetrics
from billing_stream.web.ops.recorder import MINUTES, Recorder, quantile, together
from billing_stream.web.ops.shared import Shared
from tests.support.partition import Partition


class Clock:
    """Seconds since the epoch, as they are set."""

    def __init__(self) -> None:
        self.now = 60_000_000.0

    def __call__(self) -> float:
        return self.now


async def recorder() -> tuple[Recorder, WorkerMetrics, Clock]:
    partition, metrics, clock = await Partition().restart(), WorkerMetrics(), Clock()
    return Recorder(metrics, partition.lanes, clock), metrics, clock


async def test_minutes_have_what_was_counted_in_them() -> None:
    hour, metrics, clock = await recorder()
    for count in (3, 4):
        for _ in range(12):
            metrics.records.labels("billing.commands.v1").inc(count)
            clock.now += 5
            hour.look()

    minutes = hour.minutes()

    assert together(m.counts for m in minutes).records == 12 * 7
    assert [minute.at for minute in minutes] == [1_000_000, 1_000_001, 1_000_002]
    # A look belongs to the minute in which it is made.
    assert [minute.counts.records for minute in minutes] == [33, 47, 4]


async def test_an_hour_is_kept_and_no_more() -> None:
    hour, metrics, clock = await recorder()
    for _ in range(3 * MINUTES):
        metrics.records.labels("billing.commands.v1").inc()
        clock.now += 60
        hour.look()

    assert len(hour.minutes()) == MINUTES
    assert together(m.counts for m in hour.minutes()).records == MINUTES
    clock.now += 30 * 60
    assert len(hour.minutes()) == MINUTES - 30


async def test_what_a_merchant_asks_counts_and_what_an_operator_asks_does_not() -> None:
    hour, metrics, clock = await recorder()
    for route, code in (("/api/billing", "200"), ("/api/billing", "503"), ("/ops", "200")):
        metrics.http_requests.labels("GET", route, code).inc()
        metrics.http_seconds.labels("GET", route).observe(0.004)
    clock.now += 5
    hour.look()

    now = hour.now().counts
    assert (now.requests, now.failures, sum(now.answers)) == (2, 1, 2)


async def test_a_latency_is_within_the_bucket_that_it_was_counted_in() -> None:
    hour, metrics, clock = await recorder()
    for seconds in [0.004] * 98 + [0.7, 0.8]:
        metrics.transaction_seconds.observe(seconds)
    clock.now += 5
    hour.look()

    commits = hour.now().counts.commits
    buckets = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
    half, most = quantile(0.5, buckets, commits), quantile(0.99, buckets, commits)
    assert half is not None
    assert most is not None
    assert 0.002 < half <= 0.005
    assert 0.5 < most <= 1


async def test_who_looks_at_the_same_time_is_told_the_same_and_it_is_asked_once() -> None:
    asked: list[int] = []
    go, clock = asyncio.Event(), Clock()

    async def ask() -> int:
        asked.append(len(asked))
        await go.wait()
        if asked[-1] == 1:
            raise ValueError("not this time")
        return asked[-1]

    shared = Shared(ask, 5.0, clock)
    waiting = [asyncio.ensure_future(shared.get()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting.pop().cancel()
    go.set()

    assert await asyncio.gather(*waiting) == [0, 0]
    assert await shared.get() == 0
    clock.now += 6
    (found,) = await asyncio.gather(shared.get(), return_exceptions=True)
    assert isinstance(found, ValueError)
    # What failed is not kept.
    assert await shared.get() == 2
    shared.forget()
    assert await shared.get() == 3
    await shared.close()
