"""Whether a worker lives, and whether it should get requests."""

from tests.support.nodes import Cluster, get
from tests.web.conftest import M1


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


async def test_a_worker_that_is_stuck_is_not_ready_and_says_why(two: Cluster) -> None:
    node = two.nodes[0]
    watchdog = node.context.watchdog
    await two.create(M1, "one.example")
    for lane in node.lanes.values():
        lane.stopped_reason = "1001 records in a row make no sense"

    ready = await get(node.url, "/ready")

    assert ready.status == 503
    assert "partition 0 stopped: 1001 records in a row" in ready.body["error"]["message"]
    assert len(watchdog.problems()) == 2
    assert (await node.get("/api/billing", "one.example")).status == 200
