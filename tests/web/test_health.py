"""Whether a worker lives, and whether it should get requests."""

import asyncio

from billing_stream import topics as names
from billing_stream.engine.processor import Outgoing
from tests.support.nodes import Cluster, get
from tests.support.partition import Partition, record
from tests.web.conftest import M1
from web.progress import STUCK_SECONDS, Progress


async def test_a_worker_with_lanes_is_ready_and_says_what_they_did(two: Cluster) -> None:
    await two.create(M1, "one.example")

    health = await get(two.nodes[0].url, "/health")
    ready = [await get(node.url, "/ready") for node in two.nodes]

    assert health.data["status"] == "ok"
    assert [reply.data["ready"] for reply in ready] == [True, True]
    partitions = [p for reply in ready for p in reply.data["partitions"]]
    assert [p["partition"] for p in partitions] == [0, 1, 2, 3]
    assert sum(p["transactions"] for p in partitions) == 2


async def test_a_worker_without_lanes_lives_and_is_ready_to_forward(two: Cluster) -> None:
    await two.nodes[0].own([])

    assert (await get(two.nodes[0].url, "/ready")).data["partitions"] == []


async def test_a_worker_that_recovers_lives_and_is_not_ready(two: Cluster) -> None:
    await two.nodes[0].lanes.pause()

    ready = await get(two.nodes[0].url, "/ready")

    assert (await get(two.nodes[0].url, "/health")).status == 200
    assert (ready.status, ready.code) == (503, "NOT_READY")
    assert int(ready.headers["Retry-After"]) > 0
    assert "recovering" in ready.body["error"]["message"]
    assert ready.body["error"]["details"]["ready"] is False


class Hang:
    """A writer that does not come back until it is let go."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()

    async def commit(self, _: list[Outgoing]) -> None:
        """Wait."""
        await self.let_go.wait()

    async def close(self) -> None:
        """Nothing to close."""


async def test_a_lane_that_cannot_commit_is_noticed_and_forgiven() -> None:
    now = 1000.0
    partition = await Partition().restart()
    progress = Progress(partition.lanes, lambda: now)
    hang = Hang()
    partition.lane._writer = hang  # type: ignore[assignment]
    assert progress.problems() == []
    now += 1000
    progress.look()

    created = {"merchant_id": M1, "platform_name": "shopify", "domain": "one.example"}
    feed = asyncio.ensure_future(partition.feed(record(names.MERCHANT_CREATED, 0, created)))
    await asyncio.sleep(0.01)
    assert progress.problems() == []
    now += STUCK_SECONDS
    assert progress.problems() == []
    now += 1
    assert progress.problems() == ["partition 0 has had work waiting for 31 s"]

    hang.let_go.set()
    await asyncio.gather(feed, return_exceptions=True)
    await asyncio.sleep(0.01)
    assert progress.problems() == []


async def test_a_busy_lane_that_commits_is_no_problem() -> None:
    now = 1000.0
    partition = await Partition().restart()
    progress = Progress(partition.lanes, lambda: now)
    for second in range(100):
        partition.lane._idle.clear()
        partition.lane.stats.last_commit = float(second)
        now += 1
        assert progress.problems() == []


async def test_the_watch_notices_between_requests() -> None:
    partition = await Partition().restart()
    progress = Progress(partition.lanes)

    watch = asyncio.ensure_future(progress.watch())
    await asyncio.sleep(0.01)
    watch.cancel()

    assert progress._moved.keys() == {0}
