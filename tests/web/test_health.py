"""Whether a worker lives, and whether it should get requests."""

from datetime import UTC, datetime
from typing import Any

import pytest

from billing_stream.engine.input_rows import StoppedInput
from billing_stream.engine.lane import Lane
from billing_stream.engine.lanes import Lanes
from billing_stream.records import topics as names
from tests.support.nodes import TOPICS, Cluster, get
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
    assert "being assigned or restored" in ready.body["error"]["message"]
    assert ready.body["error"]["details"]["ready"] is False


async def test_worker_that_its_group_does_not_answer_names_the_broker(
    two: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Lanes, "lease_held", False)

    ready = await get(two.nodes[0].url, "/ready")

    assert (ready.status, ready.code) == (503, "NOT_READY")
    why = "the broker that coordinates the consumer group has not answered for longer than"
    assert ready.body["error"]["message"].startswith(why)


def stop(lane: Lane[Any], *topics: str) -> None:
    for topic in topics:
        lane.inputs.stopped[topic] = StoppedInput(
            "1001 invalid records in a row", datetime.now(UTC)
        )


async def test_stopped_input_is_a_warning_while_another_is_processed(two: Cluster) -> None:
    node = two.nodes[0]
    await two.create(M1, "one.example")
    stop(node.lanes[0], *TOPICS.stoppable())
    stop(node.lanes[1], names.PURCHASE_UPDATED)

    ready = await get(node.url, "/ready")

    assert ready.data["ready"] is True
    assert ready.data["problems"] == []
    assert len(ready.data["warnings"]) == len(TOPICS.stoppable()) + 1
    stopped = f"input {names.PURCHASE_UPDATED}[1] is stopped: 1001 invalid records in a row"
    assert ready.data["warnings"][-1] == stopped


async def test_input_without_a_topic_is_a_warning(two: Cluster) -> None:
    node = two.nodes[0]
    node.lanes.unassigned = [(names.PURCHASE_UPDATED, 1)]

    ready = await get(node.url, "/ready")

    assert ready.data["problems"] == []
    missing = f"input {names.PURCHASE_UPDATED}[1] is not read: its topic is not there"
    assert ready.data["warnings"] == [missing]


async def test_worker_whose_inputs_are_all_stopped_is_not_ready(two: Cluster) -> None:
    node = two.nodes[0]
    await two.create(M1, "one.example")
    for lane in node.lanes.values():
        stop(lane, *TOPICS.stoppable())

    ready = await get(node.url, "/ready")

    assert ready.status == 503
    assert f"input {names.COMMANDS}[0] is stopped: 1001" in ready.body["error"]["message"]
    assert ready.body["error"]["details"]["warnings"] == []
    problems = node.context.watchdog.problems()
    assert len(problems) == len(node.lanes) * len(TOPICS.stoppable())
    assert (await node.get("/api/billing", "one.example")).status == 200
