"""A transaction that Kafka knows as ended, and has not marked everywhere, ends all the same."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from billing_stream.dev.cluster import Cluster
from billing_stream.engine import kafka_log
from billing_stream.engine.kafka_log import KafkaLog
from billing_stream.engine.kafka_writer import KafkaWriter
from billing_stream.engine.log import Part
from billing_stream.engine.partition_processor import Outgoing
from billing_stream.kafka import open_transactions
from billing_stream.kafka.open_transactions import OpenTransactions
from billing_stream.kafka.producers import new_producer
from billing_stream.kafka.silent_brokers import SilentBrokers
from billing_stream.kafka.start_deadline import StartDeadline
from billing_stream.kafka.transaction_protocol import TransactionalProducer
from billing_stream.kafka.transaction_state import last_transaction_states
from tests.support.group import group_on

CHANGELOG = "app-rows-changelog"
SHARED = "shared"
# With two partitions.
WIDE = "app-wide-changelog"
# With it the broker would not take what we do here to stand for its own mistake.
VERIFICATION = {"transaction.partition.verification.enable": "false"}

pytestmark = [pytest.mark.full, pytest.mark.timeout(90)]


@pytest_asyncio.fixture
async def kafka_of_our_own(tmp_path: Path) -> AsyncIterator[str]:
    with Cluster(tmp_path, kafka=True) as cluster:
        servers = cluster.bootstrap_servers
        admin = AIOKafkaAdminClient(bootstrap_servers=servers)
        await admin.start()
        try:
            await admin.create_topics(
                [NewTopic(CHANGELOG, 1, 1), NewTopic(SHARED, 1, 1), NewTopic(WIDE, 2, 1)]
            )
            await admin.alter_configs(
                [ConfigResource(ConfigResourceType.BROKER, "1", configs=VERIFICATION)]
            )
        finally:
            await admin.close()
        yield servers


def log_on(
    servers: str, waits: OpenTransactions | None = None, changelog: str = CHANGELOG
) -> KafkaLog:
    return KafkaLog(
        {"bootstrap_servers": servers},
        app_id="app",
        changelogs={"rows": changelog},
        offsets_topic=changelog,
        written=lambda partition: [(changelog, partition), (SHARED, 0)],
        partitions=2 if changelog == WIDE else 1,
        waits=waits,
    )


async def ends(servers: str) -> tuple[int, int]:
    """The last stable offset of the changelog, and its end."""
    found = []
    for level in ("read_committed", "read_uncommitted"):
        consumer = AIOKafkaConsumer(bootstrap_servers=servers, isolation_level=level)
        await consumer.start()
        tp = TopicPartition(CHANGELOG, 0)
        found.append((await consumer.end_offsets([tp]))[tp])
        await consumer.stop()
    return found[0], found[1]


async def rows(log: KafkaLog) -> dict[bytes, bytes | None]:
    found: dict[bytes, bytes | None] = {}
    await log.restore([0], lambda _p, _t, read: found.update(read))
    return found


async def end_without_marking(writer: KafkaWriter, *, commit: bool) -> None:
    """A transaction with a row, of which the coordinator does not know that it has one."""
    producer: Any = writer.producers[0]
    manager: Any = producer._txn_manager
    # In version 2 the broker itself adds the partition.
    manager.protocol = 1
    await producer.begin_transaction()
    await producer.send_and_wait(SHARED, b"known", partition=0)
    manager._txn_partitions.add(TopicPartition(CHANGELOG, 0))
    await producer.send_and_wait(CHANGELOG, b"last", key=b"row", partition=0)
    await (producer.commit_transaction() if commit else producer.abort_transaction())


def part(value: bytes) -> Part:
    """The row of the lane."""
    return Part(0, [Outgoing(CHANGELOG, b"row", value, partition=0)])


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Markers that are missing are soon taken for lost."""
    monkeypatch.setattr(kafka_log, "MARKERS_SECONDS", 0.3)


@pytest.mark.parametrize("commit", [True, False])
async def test_the_next_owner_reads_what_was_committed_and_not_what_was_aborted(
    kafka_of_our_own: str, commit: bool, impatient: None
) -> None:
    log = log_on(kafka_of_our_own)
    async with group_on(kafka_of_our_own, "app", CHANGELOG) as group:
        writer = await log.join(await group.next(), [0])
        await writer.commit([part(b"first")])
        await writer.commit([part(b"second")])
        await end_without_marking(writer, commit=commit)
        stable, end = await ends(kafka_of_our_own)
        assert stable < end, "nobody has marked it"

        following = await log.join(await group.next(), [0])

        assert await rows(log) == {b"row": b"last" if commit else b"second"}
        stable, end = await ends(kafka_of_our_own)
        assert stable == end
        await following.commit([part(b"more")])
        assert await rows(log) == {b"row": b"more"}
    for one in (writer, following):
        await one.close()


@pytest.mark.parametrize("commit", [True, False])
async def test_markers_come_though_who_began_to_write_them_ended(
    kafka_of_our_own: str, commit: bool, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The coordinator forgets how the transaction ended when its id is taken."""
    log = log_on(kafka_of_our_own)
    async with group_on(kafka_of_our_own, "app", CHANGELOG) as group:
        writer = await log.join(await group.next(), [0])
        await writer.commit([part(b"first")])
        await end_without_marking(writer, commit=commit)
        with monkeypatch.context() as patched:
            patched.setattr(TransactionalProducer, "add_group", ended)
            with pytest.raises(Ended):
                await log_on(kafka_of_our_own).join(await group.next(), [0])

        following = await log_on(kafka_of_our_own).join(await group.next(), [0])

        assert await rows(log) == {b"row": b"last" if commit else b"first"}
        stable, end = await ends(kafka_of_our_own)
        assert stable == end
    for one in (writer, following):
        await one.close()


@pytest.mark.parametrize("commit", [True, False])
async def test_join_does_not_wait_for_a_marker_that_only_the_group_lacks(
    kafka_of_our_own: str, commit: bool
) -> None:
    """Positions are rows: the offsets of the group are of no use to it."""
    log = log_on(kafka_of_our_own)
    async with group_on(kafka_of_our_own, "app", CHANGELOG) as group:
        writer = await log.join(await group.next(), [0])
        await writer.commit([part(b"first")])
        producer: Any = writer.producers[0]
        manager: Any = producer._txn_manager
        manager.protocol = 1
        await producer.begin_transaction()
        await producer.send_and_wait(CHANGELOG, b"last", key=b"row", partition=0)
        # The coordinator does not know that it has offsets.
        manager.consumer_group_added("app")
        await producer.add_offsets(writer.member, {TopicPartition(CHANGELOG, 0): 1})
        await (producer.commit_transaction() if commit else producer.abort_transaction())

        following = await asyncio.wait_for(log.join(await group.next(), [0]), 40)

        assert await rows(log) == {b"row": b"last" if commit else b"first"}
        await following.commit([part(b"more")])
        assert await rows(log) == {b"row": b"more"}
    for one in (writer, following):
        await one.close()


class Ended(Exception):
    """The process would have ended here."""


async def ended(*_: object) -> None:
    """With partitions added again, and before the end."""
    raise Ended


async def test_markers_of_two_partitions_are_written_by_the_owner_of_the_first(
    kafka_of_our_own: str, impatient: None
) -> None:
    log = log_on(kafka_of_our_own, changelog=WIDE)
    async with group_on(kafka_of_our_own, "app", WIDE) as group:
        writer = await log.join(await group.next(), [0, 1])
        producer: Any = writer.producers[0]
        producer._txn_manager.protocol = 1
        await producer.begin_transaction()
        await producer.send_and_wait(SHARED, b"known", partition=0)
        for number in range(2):
            producer._txn_manager._txn_partitions.add(TopicPartition(WIDE, number))
            await producer.send_and_wait(WIDE, b"last", key=b"row", partition=number)
        await producer.commit_transaction()
        member = await group.next()

        second = asyncio.create_task(log_on(kafka_of_our_own, changelog=WIDE).join(member, [1]))
        await asyncio.sleep(1.0)
        assert not second.done(), "the other one is to write them"
        first = await log_on(kafka_of_our_own, changelog=WIDE).join(member, [0])

        for one in (writer, first, await asyncio.wait_for(second, 20)):
            await one.close()
    for number in range(2):
        found: dict[bytes, bytes | None] = {}
        await log.restore([number], lambda _p, _t, read: found.update(read))  # noqa: B023
        assert found == {b"row": b"last"}


async def test_a_restore_waits_until_what_is_committed_is_marked_too(kafka_of_our_own: str) -> None:
    log = log_on(kafka_of_our_own)
    options = {"bootstrap_servers": kafka_of_our_own}
    # To a reader, a commit that was answered and not marked yet looks like an open transaction.
    async with AIOKafkaProducer(**options, transactional_id="slow") as slow:
        await slow.begin_transaction()
        await slow.send_and_wait(CHANGELOG, b"last", key=b"row", partition=0)

        restoring = asyncio.create_task(rows(log))
        await asyncio.sleep(0.5)
        assert not restoring.done()

        await slow.commit_transaction()
        assert await restoring == {b"row": b"last"}


async def test_restore_says_for_which_transaction_of_others_it_waits(
    kafka_of_our_own: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"bootstrap_servers": kafka_of_our_own}
    monkeypatch.setattr(open_transactions, "RESTORE_REPORT_SECONDS", 0.1)
    waits = OpenTransactions()
    log = log_on(kafka_of_our_own, waits=waits)
    async with AIOKafkaProducer(**options, transactional_id="slow") as slow:
        await slow.begin_transaction()
        sent = await slow.send_and_wait(CHANGELOG, b"last", key=b"row", partition=0)

        restoring = asyncio.create_task(rows(log))
        while not caplog.records:
            assert not restoring.done()
            await asyncio.sleep(0.02)

        where = f"{CHANGELOG}[0]@{sent.offset}"
        assert f"a restore waits: a transaction is open at {where}, for " in caplog.text
        assert (
            f"abort --topic {CHANGELOG} --partition 0 --start-offset {sent.offset}" in caplog.text
        )
        (one,) = waits.found()
        assert (one.offset, one.held_back) == (sent.offset, 1)

        await slow.abort_transaction()
        await restoring
        assert waits.found() == []


async def test_an_id_never_used_has_no_state(kafka_of_our_own: str) -> None:
    options = {"bootstrap_servers": kafka_of_our_own}
    used = new_producer(options, "app-0-0")
    await used.start()
    await used.begin_transaction()
    await used.send_and_wait(CHANGELOG, b"row", partition=0)
    await used.abort_transaction()
    await used.stop()

    deadline, silent = StartDeadline(20), SilentBrokers(options)
    assert await last_transaction_states(options, ["nobody"], deadline, silent) == {}
    async with asyncio.timeout(20):
        while await last_transaction_states(options, ["app-0-0"], deadline, silent) != {  # noqa: ASYNC110
            "app-0-0": "CompleteAbort"
        }:
            await asyncio.sleep(0.05)
