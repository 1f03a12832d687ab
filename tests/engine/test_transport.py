"""What is fetched comes to the lanes that have room, one message for each input."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from faust.types import TP

from billing_stream.agents import inputs
from billing_stream.engine.partition_inputs import Batch
from billing_stream.faust_adapter.transport import EngineConsumer
from billing_stream.records import topics as names
from tests.support.partition import TOPICS, record

PAID, CREATED = names.PURCHASE_UPDATED, names.MERCHANT_CREATED


class Lane:
    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.is_full = False
        self.inputs = SimpleNamespace(changed=set(), held=set())

    def put(self, batch: Batch) -> None:
        self.batches.append(batch)


class Lanes(dict[int, Any]):
    partitions, epoch = 8, 3

    def input(self, topic: str, partition: int) -> tuple[Any, str]:
        return self.get(partition), topic


class Client:
    """Has records; `asked` are the partitions of each fetch."""

    def __init__(self, found: Mapping[TP, list[Any]]) -> None:
        self.found = found
        self.asked: list[set[TP]] = []

    async def getmany(self, wanted: set[TP], timeout: float) -> Mapping[TP, list[Any]]:
        self.asked.append(wanted)
        return {tp: records for tp, records in self.found.items() if tp in wanted}

    def assignment(self) -> set[TP]:
        return set(self.found)


def consumer(lanes: Lanes, found: Mapping[TP, list[Any]]) -> Any:
    """A consumer of these lanes, assigned and at work."""
    made: Any = type("Started", (EngineConsumer,), {"flow_active": True, "should_stop": False})
    one = made.__new__(made)
    made.lanes, made.input_topics = lanes, frozenset(TOPICS.inputs())
    one._thread = Client(found)
    one._fetching, one._looking = asyncio.Lock(), None
    one._next, one._held, one._unsure, one._names = {}, set(), set(), {}
    one._look_at = 0.0
    one._get_active_partitions = lambda: set(found)
    one._to_message = lambda tp, last: SimpleNamespace(tp=tp, topic=tp.topic, offset=last.offset)
    one.sleep = asyncio.sleep
    return one


def records(topic: str, *offsets: int) -> list[Any]:
    return [record(topic, offset, {}) for offset in offsets]


async def test_an_input_comes_as_one_message_whatever_its_partitions() -> None:
    found = {TP(PAID, p): records(PAID, 10, 11) for p in range(4)}
    found[TP(CREATED, 1)] = records(CREATED, 0)

    messages = await consumer(Lanes(), found)._fetch()

    batches: dict[str, list[Batch]] = defaultdict(list)
    for message in messages:
        batches[message.topic] += message.value
    assert len(messages) == 2
    assert [(b.lane, b.start, b.end) for b in batches[PAID]] == [(p, 10, 12) for p in range(4)]
    assert [(b.lane, b.start, b.end) for b in batches[CREATED]] == [(1, 0, 1)]


async def test_a_batch_begins_where_the_last_one_of_its_partition_ended() -> None:
    # Between them is the end of a transaction, which no client delivers.
    one = consumer(Lanes(), {TP(PAID, 0): records(PAID, 5)})
    await one._fetch()
    one._client.found[TP(PAID, 0)] = records(PAID, 8)

    (message,) = await one._fetch()

    assert [(b.start, b.end, b.epoch) for b in message.value] == [(6, 9, Lanes.epoch)]


async def test_nothing_is_fetched_for_a_full_lane_while_others_go_on() -> None:
    lanes = Lanes({p: Lane() for p in range(3)})
    one = consumer(lanes, {TP(PAID, p): records(PAID, 0) for p in lanes})
    lanes[1].is_full = True

    (message,) = await one._fetch()
    assert [batch.lane for batch in message.value] == [0, 2]
    for lane in lanes.values():
        lane.is_full = True
    assert await one._fetch() == []
    assert len(one._client.asked) == 1, "of no partitions means of all, for the client"
    lanes[1].is_full = False
    (message,) = await one._fetch()

    assert [batch.lane for batch in message.value] == [1]


@pytest.mark.parametrize("topic", [PAID, CREATED])
async def test_an_agent_gives_each_lane_its_batches_and_drops_the_rest(
    tmp_path: Any, topic: str
) -> None:
    lanes: Any = Lanes({0: Lane(), 1: Lane()})
    app = faust.App("app", datadir=str(tmp_path))
    inputs.register(app, lanes, TOPICS)
    (declared,) = (one for one in inputs.INPUTS if one.topic == topic)
    batches = [Batch(topic, records(topic, 0), 0, 0, lane=number) for number in (1, 7, 0)]

    async def events() -> Any:
        yield SimpleNamespace(message=SimpleNamespace(value=batches))

    agent: Any = app.agents[declared.name]
    await agent.fun(SimpleNamespace(noack=lambda: SimpleNamespace(events=events)))

    assert {n: lane.batches for n, lane in lanes.items()} == {0: [batches[2]], 1: [batches[0]]}


@pytest.mark.parametrize("stopping", [True, False])
async def test_a_fetcher_that_is_cancelled_at_its_stop_ends_without_an_error(
    stopping: bool,
) -> None:
    # Otherwise Faust takes a stop beside a rebalance for a crash.
    one = consumer(Lanes(), {})
    one.app = SimpleNamespace(should_stop=False)
    fetcher = SimpleNamespace(should_stop=False)
    draining = asyncio.create_task(one._drain_messages(fetcher))
    await asyncio.sleep(0)
    fetcher.should_stop = stopping

    draining.cancel()
    await asyncio.wait({draining})

    assert draining.cancelled() != stopping
