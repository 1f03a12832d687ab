"""The newest dead letters on a real broker: read on, forgotten, and what became of them."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError

from billing_stream.ops.dead_letters import Cluster, State, discard, find_one
from billing_stream.ops.dead_letters.letter_follower import LetterFollower
from billing_stream.ops.dead_letters.open_letters import OpenDeadLetters
from billing_stream.processor import NOT_UNDERSTOOD
from billing_stream.records import schemas
from billing_stream.records import topics as names
from billing_stream.records.dead_letters import DeadLetter
from billing_stream.records.topics import Topics
from billing_stream.web.envelope import ApiError, WebCode
from billing_stream.web.ops import letter_actions
from billing_stream.web.ops.letters import DeadLetterSummaries, Letters
from tests.support.worker import create_topics, environment
from tests.support.world import M1

PARTITIONS = 4


class Writer:
    """Writes dead letters as lanes do."""

    def __init__(self, cluster: Cluster, producer: AIOKafkaProducer) -> None:
        self.cluster = cluster
        self._producer = producer

    async def write(self, count: int, *, partition: int, reason: str = "no sense") -> None:
        """So many letters, each of a record of its own."""
        for number in range(count):
            letter = DeadLetter(
                topic=self.cluster.topics.name(names.COMMANDS),
                partition=partition,
                offset=number,
                timestamp=datetime.now(UTC),
                key=M1.encode(),
                value=b"{}",
                headers=[],
                reason=reason,
            )
            await self._producer.send_and_wait(
                self.cluster.letters, schemas.encode(letter), partition=partition
            )


@pytest_asyncio.fixture
async def lane(kafka: str, prefix: str) -> AsyncIterator[Writer]:
    await create_topics(environment(kafka, prefix))
    cluster = Cluster({"bootstrap_servers": kafka}, Topics("billing-stream", prefix), PARTITIONS)
    async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
        yield Writer(cluster, producer)


async def looked(follower: LetterFollower, letters: Letters) -> DeadLetterSummaries:
    """The newest, after a look."""
    await follower.look()
    return letters.summaries()


async def test_each_look_reads_on_and_knows_what_became_of_each(lane: Writer) -> None:
    letters = Letters(lane.cluster)
    follower = LetterFollower(lane.cluster, letters)
    assert (await looked(follower, letters)).letters == []

    await lane.write(2, partition=1, reason="MERCHANT_NOT_FOUND: no billing record of merchant 1")
    await lane.write(1, partition=3, reason="JSON is malformed: invalid character (byte 7)")
    seen = await looked(follower, letters)
    assert [letter.name for letter in seen.letters] == ["3@0", "1@1", "1@0"]
    assert seen.by_reason() == [
        ("billing.commands.v1", "MERCHANT_NOT_FOUND", 2),
        ("billing.commands.v1", "JSON is malformed: invalid character (byte N)", 1),
    ]
    assert (seen.open, seen.older) == (3, False)
    assert {letter.merchant for letter in seen.letters} == {M1}

    found = await find_one(lane.cluster, "1@0")
    await discard(lane.cluster, [found.letter], by="anna", reason="a test")
    await lane.write(1, partition=0)
    seen = await looked(follower, letters)

    states = {letter.name: letter.state for letter in seen.letters}
    assert states == {
        "0@0": State.OPEN,
        "3@0": State.OPEN,
        "1@1": State.OPEN,
        "1@0": State.DISCARDED,
    }
    assert seen.open == 3


async def test_of_each_partition_only_the_newest_are_kept(lane: Writer) -> None:
    letters = Letters(lane.cluster, newest=3)
    follower = LetterFollower(lane.cluster, letters)
    await lane.write(5, partition=2)
    await lane.write(1, partition=0)

    first = await looked(follower, letters)
    assert {letter.name for letter in first.letters} == {"2@2", "2@3", "2@4", "0@0"}
    assert first.older

    found = [await find_one(lane.cluster, name) for name in ("2@0", "2@4")]
    await discard(lane.cluster, [one.letter for one in found], by="anna", reason="a test")
    await lane.write(2, partition=2)
    second = await looked(follower, letters)

    states = {letter.name: letter.state for letter in second.letters if letter.partition == 2}
    assert states == {
        "2@4": State.DISCARDED,
        "2@5": State.OPEN,
        "2@6": State.OPEN,
    }


async def test_pages_and_metrics_have_each_letter_once_from_one_reading(lane: Writer) -> None:
    letters, counted = Letters(lane.cluster), OpenDeadLetters(lane.cluster)
    follower = LetterFollower(lane.cluster, letters, counted)
    await lane.write(3, partition=1)
    # The page and the gauge look when they want to.
    await asyncio.gather(follower.look(), follower.look())
    found = await find_one(lane.cluster, "1@1")
    await discard(lane.cluster, [found.letter], by="anna", reason="a test")
    await asyncio.gather(follower.look(), follower.look())

    states = {one.name: one.state for one in letters.summaries().letters}
    assert states == {"1@0": State.OPEN, "1@1": State.DISCARDED, "1@2": State.OPEN}
    assert counted.counts == {("billing.commands.v1", NOT_UNDERSTOOD): 2}


async def test_page_without_kafka_reports_that_and_no_invalid_letter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def rehearse(*_: object) -> None:
        raise KafkaConnectionError("gone")

    async def whole(*_: object) -> Any:
        return SimpleNamespace(found=SimpleNamespace(state=State.OPEN, letter=None))

    dashboard = SimpleNamespace(rehearse=rehearse, letter_cluster=None)
    call: Any = SimpleNamespace(context=SimpleNamespace(dashboard=dashboard))
    monkeypatch.setattr(letter_actions, "letter_detail", whole)

    with pytest.raises(ApiError, match="Kafka does not answer") as caught:
        await letter_actions.show_redrive.handler(call, letter="0@1")

    assert caught.value.error_code is WebCode.NOT_READY
