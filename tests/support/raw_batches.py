"""Batches in bytes, as producers in other languages make them, and how they get to a broker."""

import asyncio
import struct
from collections.abc import Sequence
from typing import Any

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchBuilderPy

from tests.support.partition import START

NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)
CODECS = {"none": NONE, "gzip": GZIP, "snappy": SNAPPY, "lz4": LZ4, "zstd": ZSTD}
NOW = int(START.timestamp() * 1000)


class RawName(str):
    """The name of a header, of any bytes."""

    raw: bytes

    def __new__(cls, raw: bytes) -> "RawName":
        made = super().__new__(cls, raw.decode("latin-1"))
        made.raw = raw
        return made

    def encode(self, *_: Any, **__: Any) -> bytes:
        """The bytes."""
        return self.raw


LATIN_1 = RawName(b"caf\xe9")


def batch(
    *records: tuple[bytes | None, Sequence[tuple[str, bytes | None]]],
    codec: int = NONE,
    begin: int = 0,
    key: bytes | None = b"key",
) -> bytes:
    """A batch of records, each a value and headers, from this offset on."""
    builder: Any = _DefaultRecordBatchBuilderPy(2, codec, 0, -1, -1, -1, 1 << 40)
    for offset, (value, headers) in enumerate(records):
        builder.append(offset, NOW, key, value, list(headers))
    raw = builder.build()
    # Neither is part of what the checksum is of.
    struct.pack_into(">q", raw, 0, begin)
    assert DefaultRecordBatch(bytes(raw)).validate_crc()
    return bytes(raw)


async def produce(servers: str, topic: str, partition: int, raw: bytes) -> None:
    """Have the broker append a batch as it is."""
    client = AIOKafkaClient(bootstrap_servers=servers, request_timeout_ms=60_000)
    await client.bootstrap()
    try:
        client.add_topic(topic)
        await client.force_metadata_update()
        while (node := client.cluster.leader_for_partition(TopicPartition(topic, partition))) in (
            None,
            -1,
        ):
            await asyncio.sleep(0.05)
            await client.force_metadata_update()
        request = ProduceRequest(
            transactional_id=None,
            required_acks=-1,
            timeout=30_000,
            topics=[(topic, [(partition, raw)])],
        )
        response = await client.send(node, request)
        ((_, ((_, error, *_),)),) = response.topics
        assert error == 0, error
    finally:
        await client.close()
