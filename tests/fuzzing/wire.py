"""Batches of records in every shape that the format of Kafka has, and in some that it has not."""

import random
import struct
from dataclasses import dataclass
from typing import Any

import cramjam

from billing_stream.records.timestamps import TIMESTAMP_MAX, TIMESTAMP_MIN
from tests.fuzzing.values import Content, Fate
from tests.support.raw_batches import (
    CODECS,
    GZIP,
    LZ4,
    NOW,
    SNAPPY,
    ZSTD,
    Varint,
    assembled,
    encoded,
    packed,
    varint,
)

# What a batch of 33.5 MB or more is made of; packed, some kilobytes.
BOMB = bytes(40 << 20)
# In ms: among others the last of the year 9999, the first and the last that are taken.
TIMESTAMPS = [
    *(-1, 0, 1, -(1 << 62), 1 << 62, NOW * 1_000, NOW * 1_000_000),
    *(-62_135_596_800_000, 253_402_300_799_999, TIMESTAMP_MIN, TIMESTAMP_MAX),
]
# Reserved, a transaction's, a control batch, a delete horizon, the broker's time, other codecs.
ATTRIBUTES = [0x08, 0x10, 0x20, 0x40, 0x80, 0x4000, 5, 7]


@dataclass(frozen=True)
class Batch:
    """A batch in bytes and what is in it. `damaged`: its contents need not be those."""

    raw: bytes
    contents: list[Content]
    damaged: bool = False
    bomb: bool = False


def wire(rng: random.Random, contents: list[Content]) -> Batch:
    """The records as one batch."""
    kind = rng.random()
    if kind < 0.01:
        return _bomb(rng, contents)
    codec = rng.choice(list(CODECS.values()))
    count = len(contents)
    options: dict[str, Any] = {"codec": codec, "leader_epoch": rng.choice([0, -1, 1 << 30])}
    odd_time = rng.random() < 0.1
    if odd_time:
        options |= {"timestamp": rng.choice(TIMESTAMPS), "latest": rng.choice([*TIMESTAMPS, None])}
    payload = b"".join(_record(rng, n, content) for n, content in enumerate(contents))
    damaged = 0.01 <= kind < 0.1
    if damaged and rng.random() < 0.3:
        payload = _damaged(rng, payload)
    data = _packed(rng, codec, payload)
    if damaged:
        match rng.randrange(4):
            case 0:
                data = _damaged(rng, data)
            case 1:
                options["attributes"] = rng.choice(ATTRIBUTES)
            case 2:
                count = rng.choice([0, -1, count + 1, count - 1, 1 << 30])
    raw = assembled(data, count, **options)
    if damaged and rng.random() < 0.3:
        raw = _other_header(rng, raw)
    # A time that the batch says is one of its records' only where the topic takes a producer's.
    if odd_time and not damaged:
        contents = [_either(content) for content in contents]
    return Batch(raw, contents, damaged)


def _either(content: Content) -> Content:
    return Content(content.value, content.headers, content.key, Fate.EITHER, content.merchant)


def _bomb(rng: random.Random, contents: list[Content]) -> Batch:
    codec = rng.choice([GZIP, ZSTD, LZ4, SNAPPY])
    records = [encoded(0, BOMB)]
    records += [encoded(n, c.value, c.headers, c.key) for n, c in enumerate(contents, 1)]
    raw = assembled(packed(codec, b"".join(records)), len(records), codec=codec)
    return Batch(raw, contents, bomb=True)


def _record(rng: random.Random, number: int, content: Content) -> bytes:
    return encoded(
        number,
        content.value,
        content.headers,
        content.key,
        since=rng.choice([0, 0, 0, 1, -1, 1 << 40]),
        attributes=rng.choice([0, 0, 0, 0xFF]),
        varint=_longer(rng) if rng.random() < 0.05 else varint,
    )


def _longer(rng: random.Random) -> Varint:
    """Numbers in more bytes than they take: the format does not forbid it."""

    def longer(number: int) -> bytes:
        short = varint(number)
        if len(short) > 3 or rng.random() < 0.5:
            return short
        return short[:-1] + bytes([short[-1] | 0x80, 0x80, 0])

    return longer


def _packed(rng: random.Random, codec: int, payload: bytes) -> bytes:
    if rng.random() < 0.7:
        return packed(codec, payload)
    half = len(payload) // 2
    halves = payload[:half], payload[half:]
    if codec in (GZIP, ZSTD):
        # Several members, several frames; an empty one.
        return b"".join(packed(codec, part) for part in (*halves, b""))
    if codec == SNAPPY:
        # In the blocks of the Java library.
        blocks = [packed(SNAPPY, part) for part in halves if part]
        framed = b"".join(struct.pack(">i", len(block)) + block for block in blocks)
        return b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1) + framed
    if codec == LZ4:
        made = cramjam.lz4.Compressor(
            level=9, content_checksum=True, block_linked=rng.random() < 0.5
        )
        made.compress(payload)
        return bytes(made.finish())
    return payload


def _damaged(rng: random.Random, data: bytes) -> bytes:
    found = bytearray(data)
    for _ in range(rng.choice([1, 1, 3])):
        at = rng.randrange(len(found) + 1)
        found[at : at + rng.choice([0, 1, 1, 4])] = rng.randbytes(rng.choice([0, 1, 1, 4]))
    return bytes(found)


def _other_header(rng: random.Random, raw: bytes) -> bytes:
    """Fields that the checksum is not of, and the producer's; with it, where it is right."""
    found = bytearray(raw)
    at = rng.choice([0, 8, 12, 16, 17, 21, 23, 43, 51, 53])
    found[at : at + 1] = rng.randbytes(1)
    return bytes(found)
