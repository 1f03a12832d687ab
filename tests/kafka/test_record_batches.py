"""What a fetcher makes of batches: each record once, in bounded memory; it never ends."""

import re
import struct
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

import billing_stream
from billing_stream.kafka.consumers import KafkaConsumer
from billing_stream.kafka.record_batches import (
    BATCH_BYTES_MAX,
    RESPONSE_BYTES_MAX,
    BoundedRecords,
)
from billing_stream.records.unreadable import why_unreadable
from tests.support.raw_batches import (
    CODECS,
    GZIP,
    LATIN_1,
    LZ4,
    NOW,
    SNAPPY,
    ZSTD,
    assembled,
    batch,
    encoded,
    packed,
)

PACKED = [GZIP, SNAPPY, LZ4, ZSTD]
NAME_REASON = "the name of a header is not UTF-8: 'caf\\xe9'"


def read(raw: bytes, begin: int = 0) -> tuple[list[Any], int]:
    """The records that the fetcher gives of a response, and where it fetches next."""
    partition = TopicPartition("t", 0)
    records = fetcher.PartitionRecords(
        partition, BoundedRecords(raw), None, begin, None, None, True, fetcher.READ_COMMITTED
    )
    return list(records), records.next_fetch_offset


async def test_every_consumer_of_ours_reads_batches_so() -> None:
    KafkaConsumer(bootstrap_servers="127.0.0.1:1")
    assert fetcher.MemoryRecords is BoundedRecords


def test_no_other_consumer_is_made() -> None:
    folder = Path(billing_stream.__file__).parent
    made = [p.name for p in folder.rglob("*.py") if "AIOKafkaConsumer(" in p.read_text()]
    assert made == []


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_records_are_read_whatever_the_codec(codec: int) -> None:
    first = batch((b"one", [("x", b"1")]), (None, [("y", None)]), codec=codec, begin=5)
    found, then = read(first + batch((b"three", []), codec=codec, begin=7), 5)

    assert [(r.offset, r.key, r.value, r.headers, r.timestamp) for r in found] == [
        (5, b"key", b"one", (("x", b"1"),), NOW),
        (6, b"key", None, (("y", None),), NOW),
        (7, b"key", b"three", (), NOW),
    ]
    assert then == 8


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_header_name_that_is_not_utf_8_marks_its_record_only(codec: int) -> None:
    raw = batch((b"one", [("x", b"1")]), (b"two", [(LATIN_1, b"v")]), (b"3", []), codec=codec)
    found, then = read(raw)

    assert [r.value for r in found] == [b"one", b"two", b"3"]
    assert [why_unreadable(r.headers) for r in found] == [None, NAME_REASON, None]
    assert found[1].headers[1:] == (("caf\\xe9", b"v"),)
    assert then == 3


@pytest.mark.parametrize("codec", PACKED)
def test_batch_that_unpacks_beyond_the_bound_is_one_record_that_says_so(codec: int) -> None:
    large = bytes(BATCH_BYTES_MAX + 1)
    found, then = read(batch((b"small", []), (large, []), codec=codec, begin=4), 4)

    (refused,) = found
    assert (refused.offset, refused.value, then) == (5, None, 6)
    why = why_unreadable(refused.headers)
    assert re.fullmatch(
        r"the batch of offsets 4 to 5 \(2 records, [\d,]+ bytes\) unpacks to more than "
        r"33,554,432 bytes",
        why or "",
    )


@pytest.mark.parametrize("codec", PACKED)
def test_what_is_left_of_a_response_is_fetched_again_beyond_its_bound(codec: int) -> None:
    large = bytes(RESPONSE_BYTES_MAX // 2)
    batches = [batch((large, []), codec=codec, begin=number) for number in range(5)]

    found, then = read(b"".join(batches))
    assert [r.offset for r in found] == [0, 1]
    assert then == 2
    again, then = read(b"".join(batches[2:]), 2)
    assert [r.offset for r in again] == [2, 3]


def test_refused_batch_counts_as_the_largest() -> None:
    bomb = batch((bytes(BATCH_BYTES_MAX + 1), []), codec=ZSTD)
    found, then = read(bomb + batch((b"good", []), begin=1))
    assert ([r.offset for r in found], then) == ([0], 1)


@pytest.mark.parametrize("codec", PACKED)
def test_batch_that_cannot_be_unpacked_is_a_record_that_says_so(codec: int) -> None:
    raw = bytearray(batch((b"value" * 50, []), codec=codec))
    raw[61:] = b"\xff" * (len(raw) - 61)
    (found,), then = read(_with_checksum(raw))
    assert "cannot be unpacked" in (why_unreadable(found.headers) or "")
    assert then == 1


def test_batch_of_an_unknown_codec_is_a_record_that_says_so() -> None:
    raw = bytearray(batch((b"value", [])))
    struct.pack_into(">h", raw, 21, 7)
    (found,), _ = read(_with_checksum(raw))
    assert "unknown codec, 7" in (why_unreadable(found.headers) or "")


def test_malformed_record_stands_for_the_rest_of_its_batch() -> None:
    raw = bytearray(batch((b"good", []), (b"bad", [])))
    # The length of the second record's value.
    raw[raw.index(b"bad") - 1] = 126
    found, then = read(_with_checksum(raw))

    assert found[0].value == b"good"
    assert "has a malformed record" in (why_unreadable(found[1].headers) or "")
    assert (found[1].offset, then) == (1, 2)


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
@pytest.mark.parametrize("numbers", [(0, 16, 2), (0, 2, 2), (0, 0, 2), (1, 2, 2), (0, -1, 2)])
def test_offset_that_a_record_cannot_have_ends_its_batch(
    numbers: tuple[int, ...], codec: int
) -> None:
    """A reader that believed it would take all records up to there for read."""
    records = [encoded(number, str(number).encode()) for number in numbers]
    raw = assembled(packed(codec, b"".join(records)), len(records), codec=codec, begin=10)
    found, then = read(raw + batch((b"next", []), begin=13), 10)

    *good, refused, after = found
    assert [r.value for r in good] == [b"0"][: len(good)]
    assert len(good) == (numbers[0] == 0)
    wrong = next(number for n, number in enumerate(numbers) if number != n)
    assert f"with the offset {10 + wrong}" in (why_unreadable(refused.headers) or "")
    assert (refused.offset, after.offset, after.value, then) == (12, 13, b"next", 14)


def test_records_that_compaction_left_are_read() -> None:
    records = [encoded(0, b"a"), encoded(4, b"b")]
    raw = bytearray(assembled(b"".join(records), len(records)))
    # The last offset of a batch stays when its records go.
    struct.pack_into(">i", raw, 23, 6)
    found, then = read(_with_checksum(raw))
    assert ([r.offset for r in found], then) == ([0, 4], 7)


def test_batch_that_the_broker_did_not_write_so_is_an_error() -> None:
    raw = bytearray(batch((b"value", [])))
    raw[-2] ^= 1
    with pytest.raises(CorruptRecordException):
        read(bytes(raw))


@pytest.mark.parametrize("size", [10, BATCH_BYTES_MAX + 1])
def test_compressed_messages_of_old_brokers_are_bounded(size: int) -> None:
    builder = LegacyRecordBatchBuilder(1, GZIP, 1 << 40)
    builder.append(0, timestamp=NOW, key=b"key", value=bytes(size))
    found, then = read(bytes(builder.build()))

    assert then == 1
    (only,) = found
    refused = why_unreadable(only.headers)
    if size == 10:
        assert (only.value, refused) == (bytes(10), None)
    else:
        assert "unpacks to more than" in (refused or "")


def _with_checksum(raw: bytearray) -> bytes:

    struct.pack_into(">I", raw, 17, calc_crc32c(bytes(raw[21:])))
    return bytes(raw)
