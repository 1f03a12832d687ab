"""A log that is read is left without an open client, also when the reader is cancelled."""

import asyncio
from typing import Any

import pytest
from aiokafka import TopicPartition

from billing_stream.kafka import consumers
from billing_stream.kafka.committed_log import CommittedLog
from billing_stream.kafka.consumers import KafkaConsumer


async def test_a_client_that_is_cancelled_at_its_start_is_closed(
    kafka: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    starting = asyncio.Event()

    class Slow(KafkaConsumer):
        async def start(self) -> None:
            made.append(self)
            await super().start()
            starting.set()
            await asyncio.Event().wait()

    monkeypatch.setattr(consumers, "KafkaConsumer", Slow)
    async with CommittedLog({"bootstrap_servers": kafka}) as log:
        asked = asyncio.create_task(log.begins([TopicPartition(prefix + "t", 0)]))
        await starting.wait()
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)

    (consumer,) = made
    assert consumer._closed
