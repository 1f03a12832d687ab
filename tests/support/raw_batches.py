"""Batches in bytes, as producers in other languages make them, and how they get to a broker."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import cramjam
from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.util import calc_crc32c

from tests.support.partition import START

NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)
CODECS = {"none": NONE, "gzip": GZIP, "snappy": SNAPPY, "lz4": LZ4, "zstd": ZSTD}
NOW = int(START.timestamp() * 1000)

Name = str | bytes
"""The name of a header; bytes need not be UTF-8."""
Headers = Sequence[tuple[Name, bytes | None]]
Varint = Callable[[int], bytes]

LATIN_1 = b"caf\xe9"


def varint(number: int) -> bytes:
    """A number in as few bytes as it takes (zigzag)."""
    rest, found = number * 2 if number >= 0 else -number * 2 - 1, bytearray()
    while rest > 0x7F:
        found.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([*found, rest])


def encoded(
    number: int,
    value: bytes | None,
    headers: Headers = (),
    key: bytes | None = b"key",
    *,
    since: int = 0,
    attributes: int = 0,
    varint: Varint = varint,
) -> bytes:
    """The record of this number in its batch; its timestamp is `since` ms after the batch's."""

    def text(data: bytes | None) -> bytes:
        return varint(-1) if data is None else varint(len(data)) + data

    fields = [bytes([attributes]), varint(since), varint(number), text(key), text(value)]
    fields.append(varint(len(headers)))
    for name, content in headers:
        fields += text(name.encode() if isinstance(name, str) else name), text(content)
    body = b"".join(fields)
    return varint(len(body)) + body


def packed(codec: int, payload: bytes) -> bytes:
    """As the clients in C and Python pack it."""
    if codec == NONE:
        return payload
    module = (cramjam.gzip, cramjam.snappy, cramjam.lz4, cramjam.zstd)[codec - 1]
    pack = cramjam.snappy.compress_raw if codec == SNAPPY else module.compress
    return bytes(pack(payload))


def assembled(
    payload: bytes,
    count: int,
    *,
    codec: int = NONE,
    begin: int = 0,
    timestamp: int = NOW,
    latest: int | None = None,
    attributes: int = 0,
    leader_epoch: int = 0,
) -> bytes:
    """A batch of this (packed) payload of `count` records, with its checksum."""
    checked = struct.pack(
        ">hiqqqhii",
        codec | attributes,
        count - 1,
        timestamp,
        timestamp if latest is None else latest,
        -1,
        -1,
        -1,
        count,
    )
    checked += payload
    checksum = calc_crc32c(checked)
    return struct.pack(">qiibI", begin, len(checked) + 9, leader_epoch, 2, checksum) + checked


def batch(
    *records: tuple[bytes | None, Headers],
    codec: int = NONE,
    begin: int = 0,
    key: bytes | None = b"key",
) -> bytes:
    """A batch of records, each a value and headers, from this offset on."""
    each = (encoded(n, value, headers, key) for n, (value, headers) in enumerate(records))
    return assembled(packed(codec, b"".join(each)), len(records), codec=codec, begin=begin)


class RawProducer:
    """Has brokers append batches as they are."""

    def __init__(self, servers: str) -> None:
        self._client = AIOKafkaClient(bootstrap_servers=servers, request_timeout_ms=60_000)

    @asynccontextmanager
    async def open(self) -> AsyncIterator["RawProducer"]:
        """Connected, and closed at the end."""
        await self._client.bootstrap()
        try:
            yield self
        finally:
            await self._client.close()

    async def append(self, topic: str, partition: int, raw: bytes) -> tuple[int, int]:
        """The error code of the answer (0: none), and the offset of the first record."""
        tp = TopicPartition(topic, partition)
        while (node := self._client.cluster.leader_for_partition(tp)) in (None, -1):
            self._client.add_topic(topic)
            await self._client.force_metadata_update()
            await asyncio.sleep(0.05)
        request = ProduceRequest(
            transactional_id=None,
            required_acks=-1,
            timeout=30_000,
            topics=[(topic, [(partition, raw)])],
        )
        response = await self._client.send(node, request)
        ((_, ((_, error, offset, *_),)),) = response.topics
        return error, offset


async def produce(servers: str, topic: str, partition: int, raw: bytes) -> None:
    """Have the broker append a batch as it is."""
    async with RawProducer(servers).open() as producer:
        error, _ = await producer.append(topic, partition, raw)
        assert error == 0, error
