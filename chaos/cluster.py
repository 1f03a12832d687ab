"""Who does what in a cluster of several brokers, and moving it: leaders, coordinators, replicas."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from billing_stream.kafka.transaction_requests import ListTransactionsRequest
from chaos import wire

SECONDS_MAX = 5.0
GROUP = 0
Partition = tuple[str, int]


@dataclass(frozen=True)
class Placement:
    """Where a partition is: ids of brokers, -1 for no leader."""

    leader: int
    replicas: tuple[int, ...]
    in_sync: frozenset[int]


class Cluster:
    """The cluster as the brokers that answer see it. `servers` are those that should, now."""

    def __init__(self, servers: Callable[[], list[str]]) -> None:
        self._servers = servers

    async def partitions(self) -> dict[Partition, Placement]:
        """All partitions, Kafka's own too. Raises KafkaError."""
        async with self._admin() as admin:
            return {
                (topic["topic"], part["partition"]): Placement(
                    part["leader"], tuple(part["replicas"]), frozenset(part["isr"])
                )
                for topic in await admin.describe_topics()
                for part in topic["partitions"]
            }

    async def coordinator(self, kind: int, key: str) -> int:
        """The id of the broker that coordinates a group or transactional id. Raises KafkaError."""
        async with self._admin() as admin:
            return int(await admin.find_coordinator(key, kind))

    async def transaction_coordinators(self, begin: str) -> list[int]:
        """The brokers that coordinate transactional ids which begin so. Raises KafkaError."""
        async with self._admin() as admin:
            client = admin._client
            found = []
            for broker in sorted(one.nodeId for one in client.cluster.brokers()):
                answer = await client.send(broker, ListTransactionsRequest([], []))
                if any(id.startswith(begin) for id, *_ in answer.transactions):
                    found.append(broker)
            return found

    async def controller(self) -> int:
        """The id of the active controller; brokers tell clients of another. Raises OSError."""
        return int(await self._first(wire.quorum_leader))

    async def reassign(self, moves: Mapping[Partition, Iterable[int]]) -> None:
        """Give partitions these replicas; returns when Kafka has begun. Raises OSError."""
        wanted = {partition: list(replicas) for partition, replicas in moves.items()}
        await self._first(lambda server: wire.reassign(server, wanted))

    async def elect_preferred(self) -> None:
        """Let the first replica of each partition lead it. Raises OSError."""
        await self._first(wire.elect_preferred)

    async def until(
        self, good: Callable[[dict[Partition, Placement]], bool], seconds: float
    ) -> bool:
        """Wait until all partitions together are so; whether they were, in time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with suppress(KafkaError, OSError, TimeoutError):
                if good(await self.partitions()):
                    return True
            await asyncio.sleep(0.3)
        return False

    async def _first(self, question: Callable[[str], Any]) -> Any:
        """The answer of the first broker that gives one."""
        errors: list[BaseException] = []
        for server in self._servers():
            try:
                return await question(server)
            except (OSError, TimeoutError, EOFError) as error:
                errors.append(error)
        raise OSError(f"no broker answers: {errors}")

    @asynccontextmanager
    async def _admin(self) -> AsyncIterator[Any]:
        admin = AIOKafkaAdminClient(
            bootstrap_servers=self._servers(), request_timeout_ms=int(SECONDS_MAX * 1000)
        )
        try:
            await admin.start()
            yield admin
        finally:
            await admin.close()


def in_sync(placed: Mapping[Partition, Placement]) -> bool:
    """Whether every replica of every partition is in sync, and each has a leader."""
    return all(p.leader >= 0 and p.in_sync == frozenset(p.replicas) for p in placed.values())
