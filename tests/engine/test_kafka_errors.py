"""Every error code that a broker can answer has a class, and the engine acts accordingly."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from aiokafka.cluster import ClusterMetadata
from aiokafka.errors import KafkaError, kafka_errors
from aiokafka.structs import BrokerMetadata

from billing_stream.engine.fatal import EXIT_FENCED, exit_code_of
from billing_stream.engine.kafka_log import KafkaLog
from billing_stream.engine.lease import Lease
from billing_stream.engine.log import Fenced, Part
from billing_stream.engine.partition_processor import Outgoing
from billing_stream.errors import EXIT_FATAL, EXIT_GROUP, GroupRefused
from billing_stream.faust_adapter.consumer_client import LeasedConsumer
from billing_stream.kafka.error_classes import (
    ErrorClass,
    authorization_error,
    class_of,
    class_of_code,
)
from billing_stream.kafka.transaction_offsets import Member as MemberOfGroup
from billing_stream.projector.changelog_reader import Reader
from billing_stream.records.upcasting.versions import WRITTEN
from tests.support.stand_in import CLOSED, MEMBER, SILENT, StandIn, stand_in

PAGE = (Path(__file__).parents[2] / "docs" / "kafka-errors.md").read_text()
# Codes of one cause share a row.
ROW = re.compile(r"^\| (-?\d[\d, ]*) \| `([A-Z_`, ]+)` \| (\w+) \| [^|]+ \|$", re.M)
ROWS = {
    int(code): (name, ErrorClass(kind))
    for codes, names, kind in ROW.findall(PAGE)
    for code, name in zip(codes.split(", "), names.split("`, `"), strict=True)
}
# The codes with which a broker can answer each request.
RESPONSES = {
    "FindCoordinator": "15 30 53",
    "InitProducerId": "-1 14 15 16 31 42 50 51 53",
    "ListTransactions": "14 15 35",
    "DescribeProducers": "5 6 35",
    "AddPartitionsToTxn": "-1 3 14 15 16 29 35 42 47 48 49 51 53 55",
    "Produce": "-1 2 3 5 6 7 10 17 18 19 20 21 29 31 32 35 42 43 45 46 47 48 53 56 59 87",
    "AddOffsetsToTxn": "-1 14 15 16 30 35 42 47 48 49 51 53",
    "TxnOffsetCommit": "-1 3 7 14 15 16 24 29 30 35 42 47 49 51 53",
    "EndTxn": "-1 14 15 16 35 42 47 49 51 53",
    "JoinGroup": "-1 14 15 16 23 24 25 26 30 35 42 79 81 82",
    "SyncGroup": "-1 16 22 23 24 25 27 30 82",
    "Heartbeat": "15 16 22 24 25 27 30 82",
    "Fetch": "1 3 5 6 9 29 56",
    "ListOffsets": "3 5 6 29 56",
}
TOPIC = "app-rows-changelog"
JOINING = {"JoinGroup", "SyncGroup", "Heartbeat"}
READING = {"Fetch", "ListOffsets"}
WRITING = RESPONSES.keys() - JOINING - READING
# The broker has them already: the client counts the batch as written.
WRITTEN_BEFORE = 46
NOT_COORDINATOR = 16
GONE = 99
PART = Part(0, [Outgoing(TOPIC, b"key", b"row", headers=WRITTEN, partition=0)])
AS = MemberOfGroup("app", 1, MEMBER)
# What the group answers to the offsets of who has no partitions any more.
NO_MEMBER = {
    "ILLEGAL_GENERATION": 22,
    "UNKNOWN_MEMBER_ID": 25,
    "REBALANCE_IN_PROGRESS": 27,
    "FENCED_INSTANCE_ID": 82,
}


def answers(to: set[str], *kinds: ErrorClass) -> list[Any]:
    """The responses to these requests that are of these classes, by the page."""
    return [
        pytest.param(request, code, kind, id=f"{request}-{name}")
        for request in sorted(to)
        for code in map(int, RESPONSES[request].split())
        for name, kind in [ROWS[code]]
        if kind in kinds
    ]


def test_page_has_the_class_of_every_code_of_the_client() -> None:
    assert {code: kind for code, (_, kind) in ROWS.items()} == {c: class_of_code(c) for c in ROWS}
    others = set(kafka_errors) - {0} - ROWS.keys()
    assert {class_of_code(code) for code in others} == {ErrorClass.FATAL}
    for code, (name, _) in ROWS.items():
        if code in kafka_errors:
            known = {kafka_errors[code].message, kafka_errors[code].message + "_EXCEPTION"}
            assert name in known or code in (-1, 2, 3, 5, 6, 7, 10), (name, known)


def log_on(broker: StandIn, servers: str | None = None, seconds: float = 60.0) -> KafkaLog:
    """A log of one table."""
    return KafkaLog(
        {"bootstrap_servers": servers or broker.address},
        app_id="app",
        changelogs={"rows": TOPIC},
        offsets_topic=TOPIC,
        start_seconds=seconds,
    )


async def write(broker: StandIn) -> None:
    """A lane's first transaction."""
    writer = await log_on(broker).join(AS, [0])
    try:
        await writer.commit([PART])
    finally:
        await writer.close()


@pytest.mark.parametrize(("request_", "code", "kind"), answers(WRITING, ErrorClass.RETRIABLE))
async def test_retriable_answer_is_followed_by_the_same_request(
    request_: str, code: int, kind: ErrorClass
) -> None:
    async with stand_in(TOPIC) as broker:
        await write(broker)
        usual = broker.asked[request_]
        broker.fail(request_, code)
        await write(broker)

    repeated = broker.asked[request_] - 2 * usual
    assert repeated == (0 if code == WRITTEN_BEFORE else 1)


@pytest.mark.parametrize(
    ("request_", "code", "kind"),
    answers(WRITING, ErrorClass.ABORTABLE, ErrorClass.FENCED, ErrorClass.FATAL),
)
async def test_other_answer_ends_the_worker_with_its_code(
    request_: str, code: int, kind: ErrorClass
) -> None:
    async with stand_in(TOPIC) as broker:
        broker.fail(request_, code, times=None)
        with pytest.raises(Exception) as caught:  # noqa: PT011 - its class is what is tested
            await write(broker)

    expected = EXIT_FENCED if kind is ErrorClass.FENCED else EXIT_FATAL
    assert exit_code_of(caught.value) == expected
    if isinstance(caught.value, KafkaError) and code in kafka_errors:
        assert class_of(caught.value) is kind


@pytest.mark.parametrize("name", NO_MEMBER)
async def test_offsets_of_no_member_abort_the_transaction_and_say_so(name: str) -> None:
    async with stand_in(TOPIC) as broker:
        writer = await log_on(broker).join(AS, [0])
        before = broker.asked.copy()
        broker.fail("TxnOffsetCommit", NO_MEMBER[name])
        with pytest.raises(Fenced) as caught:
            await writer.commit([PART])
        after = broker.asked - before
        await writer.close()

    assert exit_code_of(caught.value) == EXIT_FENCED
    assert after["TxnOffsetCommit"] == 1
    assert after["EndTxn"] == 1, "readers would be held back"
    assert name in PAGE


async def test_member_of_no_generation_asks_the_group_for_nothing() -> None:
    """The group would accept its offsets, as those of a client that knows of no generations."""
    async with stand_in(TOPIC) as broker:
        writer = await log_on(broker).join(MemberOfGroup("app", -1, ""), [0])
        with pytest.raises(Fenced):
            await writer.commit([PART])
        await writer.close()

    assert broker.asked["TxnOffsetCommit"] == 0


@pytest.mark.parametrize("request_", ["AddOffsetsToTxn", "TxnOffsetCommit"])
async def test_group_that_is_refused_is_named(request_: str) -> None:
    async with stand_in(TOPIC) as broker:
        broker.fail(request_, 30, times=None)
        with pytest.raises(KafkaError) as caught:
            await write(broker)

    said = authorization_error(caught.value) or ""
    assert said.startswith("Kafka does not allow it: group app: ")
    assert "billing-stream topics acls" in said


async def test_topic_that_may_only_be_written_is_no_reason_not_to_join() -> None:
    """As those of events."""
    async with stand_in(TOPIC) as broker:
        broker.fail("DescribeProducers", 29, times=None)
        await write(broker)


async def test_connection_lost_while_looking_for_a_coordinator_is_not_the_end() -> None:
    """As while brokers are restarted."""
    async with stand_in(TOPIC) as broker:
        log = log_on(broker)
        writer = await log.join(AS, [0])
        broker.fail("EndTxn", NOT_COORDINATOR)
        broker.fail("FindCoordinator", CLOSED)
        await writer.commit([PART])
        await writer.close()
        assert await restored(log) == [(b"key", b"row")]


async def restored(log: KafkaLog) -> list[tuple[bytes, bytes | None]]:
    """All rows of the partition."""
    found: list[tuple[bytes, bytes | None]] = []
    await log.restore([0], lambda _, __, rows: found.extend(rows))
    return found


@pytest.mark.parametrize("request_", ["ListTransactions", "DescribeProducers"])
async def test_connection_lost_while_joining_is_not_the_end(request_: str) -> None:
    async with stand_in(TOPIC) as broker:
        broker.fail(request_, CLOSED)
        await write(broker)
        assert await restored(log_on(broker)) == [(b"key", b"row")]


async def test_broker_that_is_gone_is_not_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a while the others name it still."""
    tried: list[int] = []
    brokers, known = ClusterMetadata.brokers, ClusterMetadata.broker_metadata

    def with_gone(self: ClusterMetadata) -> set[BrokerMetadata]:
        gone = set() if tried else {BrokerMetadata(GONE, "127.0.0.1", 1, None)}
        return {*brokers(self), *gone}

    def note(self: ClusterMetadata, node: int) -> Any:
        tried.extend([node] if node == GONE else [])
        return known(self, node)

    async with stand_in(TOPIC) as broker:
        monkeypatch.setattr(ClusterMetadata, "brokers", with_gone)
        monkeypatch.setattr(ClusterMetadata, "broker_metadata", note)
        await write(broker)
        assert tried
        assert await restored(log_on(broker)) == [(b"key", b"row")]


@pytest.mark.parametrize(("request_", "code", "kind"), answers(READING, ErrorClass.RETRIABLE))
async def test_restore_asks_again_after_an_answer_that_can_pass(
    request_: str, code: int, kind: ErrorClass
) -> None:
    async with stand_in(TOPIC) as broker:
        await write(broker)
        broker.fail(request_, code)
        assert await restored(log_on(broker)) == [(b"key", b"row")]


@pytest.mark.parametrize(
    ("request_", "code", "kind"), answers(READING, ErrorClass.ABORTABLE, ErrorClass.FATAL)
)
async def test_restore_ends_with_any_other_answer(
    request_: str, code: int, kind: ErrorClass
) -> None:
    async with stand_in(TOPIC) as broker:
        await write(broker)
        broker.fail(request_, code, times=None)
        with pytest.raises(KafkaError) as caught:
            await asyncio.wait_for(restored(log_on(broker)), 30)

    assert exit_code_of(caught.value) == EXIT_FATAL


async def test_broker_that_accepts_and_never_answers_does_not_delay_a_restore() -> None:
    connections = 0

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(hang, "127.0.0.1", 0)
    address = f"127.0.0.1:{silent.sockets[0].getsockname()[1]}"
    async with silent, stand_in(TOPIC) as broker:
        log = log_on(broker, f"{address},{broker.address}")
        await (await log.join(AS, [0])).close()
        await restored(log)

    # To find out who answers, once each; a client waits there for as long as for any request.
    assert connections <= 2


async def test_connection_lost_at_the_end_of_a_restore_does_not_cancel_it() -> None:
    async with stand_in(TOPIC) as broker:
        log = log_on(broker)
        await (await log.join(AS, [0])).close()
        broker.fail("Fetch", CLOSED)
        assert await restored(log) == []


class Member:
    """A worker's consumer, in the group `app`."""

    def __init__(self, broker: StandIn, **options: Any) -> None:
        self.lost: list[BaseException] = []
        self.consumer = LeasedConsumer(
            bootstrap_servers=broker.address,
            group_id="app",
            lease=Lease(60),
            on_lost=self.lost.append,
            heartbeat_interval_ms=20,
            retry_backoff_ms=10,
            **options,
        )

    async def __aenter__(self) -> "Member":
        await self.consumer.start()
        self.consumer.subscribe([TOPIC])
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.consumer.stop()


async def until(done: Any) -> None:
    async with asyncio.timeout(30):
        while not done():  # noqa: ASYNC110 - the client has no event for it
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("request_", "code", "kind"), answers(JOINING, ErrorClass.FATAL, ErrorClass.FENCED)
)
async def test_answer_that_ends_the_membership_ends_the_worker(
    request_: str, code: int, kind: ErrorClass
) -> None:
    async with stand_in(TOPIC) as broker:
        broker.fail(request_, code, times=None)
        async with Member(broker) as member:
            await until(lambda: member.lost)

    error = member.lost[0]
    assert isinstance(error, GroupRefused)
    assert exit_code_of(error) == EXIT_GROUP
    assert ROWS[code][0] in str(error) or code == -1


@pytest.mark.parametrize(("request_", "code", "kind"), answers(JOINING, ErrorClass.RETRIABLE))
async def test_member_goes_on_after_an_answer_that_can_pass(
    request_: str, code: int, kind: ErrorClass
) -> None:
    async with stand_in(TOPIC) as broker, Member(broker) as member:
        await until(lambda: broker.asked["Heartbeat"] > 2)
        before = broker.asked.copy()
        broker.fail(request_, code)
        if request_ != "Heartbeat":
            member.consumer._coordinator.request_rejoin()
        await until(lambda: broker.asked[request_] > before[request_] + 1)
        await until(lambda: broker.asked["Heartbeat"] > before["Heartbeat"] + 3)

    assert member.lost == []


async def test_heartbeat_without_an_answer_is_given_up_before_the_session_ends() -> None:
    async with stand_in(TOPIC) as broker, Member(broker, session_timeout_ms=400) as member:
        await until(lambda: broker.asked["Heartbeat"] > 2)
        before = broker.asked.copy()
        broker.fail("Heartbeat", SILENT)

        await until(lambda: broker.asked["Heartbeat"] > before["Heartbeat"] + 3)

    assert broker.asked["FindCoordinator"] > before["FindCoordinator"]
    assert broker.asked["JoinGroup"] == before["JoinGroup"], "it is still a member"
    assert member.lost == []


async def read_on(reader: Reader) -> None:
    while True:
        await reader.read(1)


async def test_projector_ends_when_its_membership_ends_later() -> None:
    async with stand_in(TOPIC) as broker:
        reader = Reader.of_group({"bootstrap_servers": broker.address}, [TOPIC], "app", 1_000)
        await reader.start()
        try:
            await reader.read(1)
            broker.fail("Heartbeat", 30, times=None)
            with pytest.raises(GroupRefused, match="GROUP_AUTHORIZATION_FAILED"):
                await asyncio.wait_for(read_on(reader), 30)
        finally:
            await reader.stop()


async def test_projector_does_not_start_where_the_group_refuses_it() -> None:
    async with stand_in(TOPIC) as broker:
        broker.fail("JoinGroup", 26, times=None)
        reader = Reader.of_group({"bootstrap_servers": broker.address}, [TOPIC], "app", 1_000)
        try:
            with pytest.raises(GroupRefused, match="INVALID_SESSION_TIMEOUT"):
                await reader.start()
        finally:
            await reader.stop()
