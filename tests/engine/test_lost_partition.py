"""A partition whose transactions Kafka ended, and whose worker still owns it, is taken back."""

import asyncio
import random
from pathlib import Path

import pytest

from billing_stream.domain.commands import StartTrial
from billing_stream.engine.kafka_log import new_producer, transactional_ids
from billing_stream.engine.lane import NotReady, OutcomeUnknown
from billing_stream.engine.lease import Lease
from billing_stream.engine.losses import LOSSES_MAX, LOSSES_SECONDS, Losses
from billing_stream.engine.partition_processor import Request
from billing_stream.records import topics as names
from billing_stream.records.topics import Topics
from tests.support.audit import Audit
from tests.support.partition import Partition, record
from tests.support.traffic import Traffic
from tests.support.worker import create_topics, environment, worker
from tests.support.world import M1

CREATED = {"merchant_id": M1, "platform_name": "shopify", "domain": "a.example"}
PARTITIONS = 4


async def owned() -> Partition:
    """A partition of a worker that can take it back."""
    partition = await Partition().restart()
    partition.lanes.on_loss = lambda: True
    await partition.feed(record(names.MERCHANT_CREATED, 0, CREATED))
    return partition


def trial(key: str) -> Request:
    return Request(StartTrial(M1, None, key), "http", "c")


async def test_lost_partition_answers_nobody_until_it_is_restored() -> None:
    partition = await owned()
    await partition.log.fence(0)

    with pytest.raises(OutcomeUnknown):
        await partition.lane.ask(trial("http/1"))

    assert partition.lanes.get(0) is None, "its rows would be read"
    assert partition.lanes.lost == [0]
    with pytest.raises(NotReady):
        partition.lane.ask(trial("http/2"))
    assert partition.deaths.causes == []


async def test_lost_partition_continues_after_it_is_restored() -> None:
    partition = await owned()
    lanes = partition.lanes
    await partition.log.fence(0)
    with pytest.raises(OutcomeUnknown):
        await partition.lane.ask(trial("http/1"))

    await lanes.pause()
    await lanes.drop(())
    lanes.adopt(await lanes.restore([0]))
    lanes.next_epoch()
    lanes.start()

    assert lanes.lost == []
    partition.lane = lanes[0]
    assert partition.rows()["positions"] == {names.MERCHANT_CREATED: 1}
    await lanes[0].ask(trial("http/1"))
    assert len(partition.events("trial.started")) == 1
    assert partition.deaths.causes == []


async def test_batch_that_waits_for_a_lost_lane_is_let_go() -> None:
    partition = await owned()
    lane, epoch = partition.lane, partition.lanes.epoch
    await partition.log.fence(0)
    with pytest.raises(OutcomeUnknown):
        await lane.ask(trial("http/1"))
    await partition.lanes.drop(())

    partition.lanes.epoch = epoch
    await partition.feed(record(names.MERCHANT_CREATED, 1, CREATED), start=1)

    assert partition.rows()["positions"] == {names.MERCHANT_CREATED: 1}


async def test_partition_lost_after_the_lease_waits_for_the_group() -> None:
    partition = await owned()
    now = 0.0
    partition.lanes._lease = Lease(8.0, lambda: now)
    await partition.log.fence(0)

    with pytest.raises(OutcomeUnknown):
        await partition.lane.ask(trial("http/1"))

    assert partition.lanes.lost == [0]
    assert partition.deaths.causes == []


async def test_membership_is_confirmed_by_a_heartbeat_that_is_sent_later() -> None:
    partition = await owned()
    now = 0.0
    lease = partition.lanes._lease = Lease(8.0, lambda: now)
    lease.renew(0.0)
    confirming = asyncio.create_task(partition.lanes.confirm_membership())
    await asyncio.sleep(0.1)
    lease.renew(0.0)
    await asyncio.sleep(0.1)
    assert not confirming.done(), "that one was sent before"

    now = 1.0
    lease.renew(now)

    await asyncio.wait_for(confirming, 5)
    assert partition.deaths.causes == []


def test_partition_lost_again_and_again_is_given_up() -> None:
    now = 0.0
    losses = Losses(lambda: now)

    assert [losses.too_many(0) for _ in range(LOSSES_MAX + 1)] == [False] * LOSSES_MAX + [True]
    assert not losses.too_many(1)
    now = LOSSES_SECONDS
    assert not losses.too_many(0)


async def test_worker_whose_transactions_are_ended_takes_its_partitions_back(
    kafka: str, prefix: str, folder: Path
) -> None:
    env = environment(kafka, prefix, BILLING_PARTITIONS=str(PARTITIONS))
    await create_topics(env)
    audit = Audit(kafka, Topics("billing-stream", prefix))
    async with (
        Traffic(kafka, prefix, PARTITIONS, 20260101) as traffic,
        worker(env, folder) as one,
    ):
        load = asyncio.create_task(send(traffic))
        for partition in random.Random(1).sample(range(PARTITIONS), 3):
            await asyncio.sleep(0.5)
            # As the coordinator does with a transaction that is open for too long.
            for name in transactional_ids(f"{prefix}billing-stream", partition):
                stranger = new_producer({"bootstrap_servers": kafka}, name)
                await stranger.start()
                await stranger.stop()
        await load

        await audit.wait_for(traffic.expected, 60)

        assert one.running, one.tail()
        assert "lost its transactions" in one.log.read_text()
        await one.ready()
    await audit.check(traffic.expected)


async def send(traffic: Traffic) -> None:
    for _ in range(20):
        await traffic.merchants(20)
        await asyncio.sleep(0.15)
