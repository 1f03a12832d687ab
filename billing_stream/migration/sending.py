"""Commands to `billing.commands.v1`, keyed by merchant, acknowledged by all replicas."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.errors import KafkaError
from msgspec.structs import replace

from billing_stream.domain.commands import OLD_PURCHASES_MAX, ImportMerchant
from billing_stream.engine.partitioner import partition_of
from billing_stream.kafka.consumers import short_producer
from billing_stream.kafka.start_deadline import StartDeadline
from billing_stream.migration.migration_errors import ImportFailed
from billing_stream.records.schemas import encode

Ends = dict[int, int]
"""Per partition, the position after the last record that was sent."""

_BATCH_BYTES = 256 * 1024
_LINGER_MS = 20
_IN_FLIGHT_MAX = 10_000


def records_of(command: ImportMerchant, record_bytes_max: int) -> Iterator[bytes]:
    """The command in as many records as it takes: each has some of the purchases.

    Raises ImportFailed when a single purchase does not fit.
    """
    purchases = command.purchases
    if len(purchases) <= OLD_PURCHASES_MAX:
        record = encode(command)
        if len(record) <= record_bytes_max:
            yield record
            return
    if len(purchases) < 2:
        raise ImportFailed(
            f"merchant {command.merchant_id}: a command of {len(encode(command))} bytes is more "
            f"than BILLING_MAX_RECORD_BYTES, {record_bytes_max}"
        )
    half = min(OLD_PURCHASES_MAX, len(purchases) // 2)
    yield from records_of(replace(command, purchases=purchases[:half]), record_bytes_max)
    yield from records_of(replace(command, purchases=purchases[half:]), record_bytes_max)


class Block:
    """Records of some merchants in the order of their ids; `name` is how these begin."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.records: list[tuple[str, bytes]] = []
        self._digest = hashlib.blake2b(digest_size=16)

    def add(self, merchant: str, record: bytes) -> None:
        """Add the next record."""
        self.records.append((merchant, record))
        self._digest.update(record)

    @property
    def digest(self) -> str:
        """The same for the same records only."""
        return self._digest.hexdigest()


class Sender:
    """Sends blocks. Made by `sending`."""

    def __init__(self, producer: Any, topic: str, partitions: int) -> None:
        self._producer = producer
        self._topic = topic
        self._partitions = partitions

    async def send(self, records: Sequence[tuple[str, bytes | None]]) -> Ends:
        """Send records of merchants; returns when all are acknowledged."""
        ends: Ends = {}
        for start in range(0, len(records), _IN_FLIGHT_MAX):
            sent = [
                await self._producer.send(
                    self._topic,
                    record,
                    key=merchant.encode(),
                    partition=partition_of(merchant, self._partitions),
                )
                for merchant, record in records[start : start + _IN_FLIGHT_MAX]
            ]
            for sent_to in await asyncio.gather(*sent):
                ends[sent_to.partition] = max(ends.get(sent_to.partition, 0), sent_to.offset + 1)
        return ends


@asynccontextmanager
async def sending(
    options: Mapping[str, Any], topic: str, partitions: int, deadline: StartDeadline
) -> AsyncIterator[Sender]:
    """A producer that repeats what was not acknowledged, and doubles nothing by it."""
    batches = {"linger_ms": _LINGER_MS, "max_batch_size": _BATCH_BYTES}
    try:
        async with short_producer(options, deadline, **batches) as producer:
            yield Sender(producer, topic, partitions)
    except KafkaError as error:
        raise ImportFailed(
            f"Kafka did not take the commands ({error}): run the same again, it continues"
        ) from error
