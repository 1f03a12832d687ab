"""A consumer group with one member, which comes to its next generation when it is told to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition

from billing_stream.kafka.transaction_offsets import Member

REBALANCE_SECONDS_MAX = 30.0


class Group(ConsumerRebalanceListener):  # type: ignore[misc]
    """The group `name`. `member` is its one member as of the last `next`."""

    def __init__(self, consumer: AIOKafkaConsumer, name: str) -> None:
        self.member = Member(name, -1, "")
        self._coordinator: Any = consumer._coordinator
        self._rebalanced: asyncio.Queue[Member] = asyncio.Queue()

    async def next(self) -> Member:
        """The member in the next generation; in the one before it is a member no more."""
        if self.member.generation >= 0:
            self._coordinator.request_rejoin()
        return await self.follow()

    async def follow(self) -> Member:
        """The member after a rebalance that somebody else begins."""
        self.member = await asyncio.wait_for(self._rebalanced.get(), REBALANCE_SECONDS_MAX)
        return self.member

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """A rebalance begins."""

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """It is over."""
        found = self._coordinator.generation, self._coordinator.member_id
        self._rebalanced.put_nowait(Member(self.member.group, *found))


@asynccontextmanager
async def group_on(servers: str, name: str, topic: str) -> AsyncIterator[Group]:
    """A group whose member reads this topic; it leaves with the block."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=servers,
        group_id=name,
        enable_auto_commit=False,
        heartbeat_interval_ms=100,
        retry_backoff_ms=10,
    )
    await consumer.start()
    try:
        group = Group(consumer, name)
        consumer.subscribe([topic], listener=group)
        yield group
    finally:
        await consumer.stop()
