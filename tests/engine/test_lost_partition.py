"""A partition whose transactions Kafka ended, and whose worker still owns it, is taken back."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.group import LeaveGroupRequest

from billing_stream.domain.commands import StartTrial
from billing_stream.engine.lane import NotReady, OutcomeUnknown
from billing_stream.engine.lease import Lease
from billing_stream.engine.losses import LOSSES_MAX, LOSSES_SECONDS, Losses
from billing_stream.engine.partition_processor import Request
from billing_stream.kafka.earlier_transactions import generation_of
from billing_stream.kafka.producers import new_producer
from billing_stream.kafka.transaction_requests import ListTransactionsRequest
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
    partition.log.take_away(0)

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
    partition.log.take_away(0)
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
    partition.log.take_away(0)
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
    partition.log.take_away(0)

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
    async def end_transactions() -> None:
        # As the coordinator does with a transaction that is open for too long.
        for name in await present_ids(kafka, f"{prefix}billing-stream"):
            stranger = new_producer({"bootstrap_servers": kafka}, name)
            await stranger.start()
            await stranger.stop()

    await disturbed(kafka, prefix, folder, end_transactions)


async def test_worker_whose_offsets_are_refused_takes_its_partitions_back(
    kafka: str, prefix: str, folder: Path
) -> None:
    group = f"{prefix}billing-stream"

    async def remove_member() -> None:
        # As the coordinator does with a member that it has not heard of for too long.
        admin: Any = AIOKafkaAdminClient(bootstrap_servers=kafka)
        await admin.start()
        try:
            (answer,) = await admin.describe_consumer_groups([group])
            (found,) = answer.groups
            node = await admin.find_coordinator(group)
            for member_id, *_ in found[5]:
                left = await admin._client.send(node, LeaveGroupRequest(group, member_id))
                assert left.error_code == 0
        finally:
            await admin.close()

    await disturbed(kafka, prefix, folder, remove_member)


async def disturbed(
    kafka: str, prefix: str, folder: Path, disturb: Callable[[], Awaitable[None]]
) -> None:
    """A worker at work, three times disturbed, goes on, and has lost or doubled nothing."""
    env = environment(kafka, prefix, BILLING_PARTITIONS=str(PARTITIONS))
    await create_topics(env)
    audit = Audit(kafka, Topics("billing-stream", prefix))
    async with (
        Traffic(kafka, prefix, PARTITIONS, 20260101) as traffic,
        worker(env, folder) as one,
    ):
        load = asyncio.create_task(send(traffic))
        for _ in range(3):
            await asyncio.sleep(0.5)
            await disturb()
        await load

        await audit.wait_for(traffic.expected, 60)

        assert one.running, one.tail()
        assert "lost its transactions" in one.log.read_text()
        await one.ready()
    await audit.check(traffic.expected)


async def present_ids(kafka: str, app: str) -> list[str]:
    """The transactional ids of an app, of its group's last generation."""
    client = AIOKafkaClient(bootstrap_servers=kafka)
    await client.bootstrap()
    try:
        found = []
        for broker in client.cluster.brokers():
            answer: Any = await client.send(broker.nodeId, ListTransactionsRequest([], []))
            found += [name for name, *_ in answer.transactions]
    finally:
        await client.close()
    generations = {name: generation_of(app, name) for name in found}
    last = max(number for number in generations.values() if number is not None)
    return [name for name, number in generations.items() if number == last]


async def send(traffic: Traffic) -> None:
    for _ in range(20):
        await traffic.merchants(20)
        await asyncio.sleep(0.15)
