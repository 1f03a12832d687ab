"""Fetched batches, unpacked within bounds; unreadable records are marked.

It takes the place of aiokafka's `MemoryRecords`, which trusts producers: the name of a header that
is not UTF-8 ends the consumer, and a batch is unpacked whole, however large that is.

Bounds: a batch is unpacked to BATCH_BYTES_MAX at most, and the batches of one response and
partition until RESPONSE_BYTES_MAX are reached; the rest is fetched again. Records of other
formats than that of Kafka 0.11 and later are checked likewise.
"""

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import cramjam
from aiokafka.errors import CorruptRecordException, UnsupportedCodecError
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import decode_varint

from billing_stream.records.unreadable import Headers, unreadable

BATCH_BYTES_MAX = 32 << 20
RESPONSE_BYTES_MAX = 8 << 20
# Most batches fit; each further attempt has so much more room.
_ROOM, _MORE_ROOM = 256 << 10, 8
# What cramjam says when the room does not suffice.
_NO_ROOM = "failed to write whole buffer"
_CODECS = {1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd"}
_CODEC_MASK = 0x07
_XERIAL = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES = 16

# BaseOffset, Length, LeaderEpoch, Magic, CRC, Attributes, LastOffsetDelta, FirstTimestamp,
# MaxTimestamp, ProducerId, ProducerEpoch, BaseSequence, Records.
_HEADER = struct.Struct(">qiibIhiqqqhii")
_LENGTH = struct.Struct(">qi")
_AFTER_LENGTH = _LENGTH.size
_ATTRIBUTES = struct.calcsize(">qiibI")
_MAGIC = struct.calcsize(">qii")
_LOG_APPEND_TIME = 0x08


class ParsedRecord(NamedTuple):
    """A record of a batch, as aiokafka's fetcher takes it."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    checksum: None = None


class BatchRefused(Exception):
    """A batch that cannot be unpacked, or not within the bounds; says why."""


class BoundedRecords:
    """The batches of one response and partition. Takes the place of aiokafka's `MemoryRecords`."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._batches = MemoryRecords(data)
        self._at = 0
        self._unpacked = 0

    def size_in_bytes(self) -> int:
        """The size of the response as it was fetched."""
        return len(self._data)

    def has_next(self) -> bool:
        """Whether another batch is there, and may be unpacked: without one, the fetcher fetches."""
        return self._unpacked < RESPONSE_BYTES_MAX and bool(self._batches.has_next())

    def next_batch(self) -> Any:
        """The next batch. Raises CorruptRecordException when it is too short to be one."""
        begin = self._at
        self._at += _AFTER_LENGTH + _LENGTH.unpack_from(self._data, begin)[1]
        batch = self._batches.next_batch()
        raw = self._data[begin : self._at]
        if raw[_MAGIC] < 2:
            return _OldBatch(batch, raw, self) if _old_codec(raw) else batch
        return batch if batch.is_control_batch else _Batch(batch, raw, self)

    def unpack(self, codec: int, packed: memoryview) -> bytes | memoryview:
        """As the function `unpack`; it counts towards the bound of the response."""
        try:
            payload = unpack(codec, packed)
        except BatchRefused:
            # The attempt took as long as the largest batch does.
            self._unpacked += BATCH_BYTES_MAX
            raise
        self._unpacked += len(payload)
        return payload


class _Batch:
    """A batch with what the fetcher asks of one."""

    def __init__(self, batch: Any, raw: memoryview, response: BoundedRecords) -> None:
        self._batch = batch
        self._raw = raw
        self._response = response
        self.producer_id = batch.producer_id
        self.is_control_batch = False
        self.is_transactional = batch.is_transactional
        self.next_offset: int = batch.next_offset
        self._count = 0

    @property
    def base_offset(self) -> int:
        """The offset of the first record."""
        found: int = self._batch.base_offset
        return found

    def validate_crc(self) -> bool:
        """Whether the batch is as the broker stored it."""
        return bool(self._batch.validate_crc())

    def __iter__(self) -> Iterator[Any]:
        self._count = _HEADER.unpack_from(self._raw)[12]
        try:
            batch, payload = self._unpacked()
        except BatchRefused as error:
            yield self._refused(self.base_offset, str(error))
            return
        done, least = 0, self.base_offset
        try:
            for record in batch:
                if not self._is_next(record.offset, least):
                    break
                yield record
                done, least = done + 1, record.offset + 1
            else:
                return
        except (UnicodeDecodeError, CorruptRecordException):
            pass
        yield from self._each(payload, done)

    def _is_next(self, offset: int, least: int) -> bool:
        """Whether a record may have this offset: the broker takes what its producer wrote."""
        dense = self._count == self.next_offset - self.base_offset
        return offset == least if dense else least <= offset < self.next_offset

    def _unpacked(self) -> tuple[Any, memoryview]:
        """The batch without compression, and its records in bytes. Raises BatchRefused."""
        raw = self._raw
        (attributes,) = struct.unpack_from(">h", raw, _ATTRIBUTES)
        codec = attributes & _CODEC_MASK
        if not codec:
            return self._batch, raw[_HEADER.size :]
        payload = self._response.unpack(codec, raw[_HEADER.size :])
        length = _HEADER.size - _AFTER_LENGTH + len(payload)
        plain = b"".join(
            (
                raw[: _AFTER_LENGTH - 4],
                struct.pack(">i", length),
                raw[_AFTER_LENGTH:_ATTRIBUTES],
                struct.pack(">h", attributes & ~_CODEC_MASK),
                raw[_ATTRIBUTES + 2 : _HEADER.size],
                payload,
            )
        )
        return MemoryRecords(plain).next_batch(), memoryview(plain)[_HEADER.size :]

    def _each(self, payload: memoryview, done: int) -> Iterator[ParsedRecord]:
        """The records after the first `done`, read without trust; last, one for the rest."""
        header = _HEADER.unpack_from(self._raw)
        at, offset = 0, self.base_offset
        for number in range(self._count):
            try:
                record, at = _parse(payload, at, header)
                if not self._is_next(record.offset, offset):
                    raise ValueError(f"with the offset {record.offset}")
            except (ValueError, IndexError) as error:
                yield self._refused(offset, f"has a malformed record ({error})")
                return
            offset = record.offset + 1
            if number >= done:
                yield record

    def _refused(self, begin: int, why: str) -> ParsedRecord:
        """What stands for the records from this offset on, at the last of them."""
        header = _HEADER.unpack_from(self._raw)
        last = self.next_offset - 1
        appended = bool(header[5] & _LOG_APPEND_TIME)
        which = f"offset {last}" if begin == last else f"offsets {begin} to {last}"
        reason = f"the batch of {which} ({self._count} records, {len(self._raw):,} bytes) {why}"
        return ParsedRecord(last, header[8], int(appended), None, None, unreadable(reason))


class _OldBatch(_Batch):
    """A compressed message of Kafka before 0.11: its value is a set of messages."""

    def __iter__(self) -> Iterator[Any]:
        try:
            self._response.unpack(_old_codec(self._raw), _old_value(self._raw))
        except (BatchRefused, struct.error) as error:
            yield self._refused(self.next_offset - 1, str(error))
            return
        yield from self._batch

    def _refused(self, begin: int, why: str) -> ParsedRecord:
        reason = f"the batch of offset {begin} ({len(self._raw):,} bytes) {why}"
        return ParsedRecord(begin, -1, 0, None, None, unreadable(reason))


def unpack(codec: int, packed: memoryview) -> bytes | memoryview:
    """The bytes that a batch has without compression. Raises BatchRefused."""
    name = _CODECS.get(codec)
    if name is None:
        raise BatchRefused(f"has an unknown codec, {codec}")
    try:
        if name == "snappy":
            return _unsnap(packed)
        return _within_bounds(getattr(cramjam, name), packed)
    except (cramjam.DecompressionError, struct.error, UnsupportedCodecError) as error:
        raise BatchRefused(f"cannot be unpacked ({name}: {error})") from None


def _within_bounds(codec: Any, packed: memoryview) -> memoryview:
    room = max(_ROOM, 4 * len(packed))
    while True:
        into = bytearray(min(room, BATCH_BYTES_MAX))
        try:
            return memoryview(into)[: codec.decompress_into(packed, into)]
        except cramjam.DecompressionError as error:
            if _NO_ROOM not in str(error):
                raise
        if room >= BATCH_BYTES_MAX:
            raise _too_large()
        room *= _MORE_ROOM


def _unsnap(packed: memoryview) -> bytes:
    """As it is, or in the blocks of the Java library."""
    if packed[: len(_XERIAL)] != _XERIAL:
        return _unsnapped([packed])
    blocks, at = [], _XERIAL_HEADER_BYTES
    while at < len(packed):
        (length,) = struct.unpack_from(">i", packed, at)
        if length < 0:
            raise BatchRefused("cannot be unpacked (snappy: a block of negative length)")
        blocks.append(packed[at + 4 : at + 4 + length])
        at += 4 + length
    return _unsnapped(blocks)


def _unsnapped(blocks: list[memoryview]) -> bytes:
    # Each says first how large it is.
    if sum(cramjam.snappy.decompress_raw_len(block) for block in blocks) > BATCH_BYTES_MAX:
        raise _too_large()
    return b"".join(bytes(cramjam.snappy.decompress_raw(block)) for block in blocks)


def _too_large() -> BatchRefused:
    return BatchRefused(f"unpacks to more than {BATCH_BYTES_MAX:,} bytes")


def _parse(payload: memoryview, at: int, header: tuple[int, ...]) -> tuple[ParsedRecord, int]:
    length, at = decode_varint(payload, at)
    end = at + length
    if length < 0 or end > len(payload):
        raise ValueError(f"of {length} bytes")
    at += 1
    since, at = decode_varint(payload, at)
    delta, at = decode_varint(payload, at)
    key, at = _bytes(payload, at, end)
    value, at = _bytes(payload, at, end)
    headers, at = _headers(payload, at, end)
    if at != end:
        raise ValueError(f"{end - at} bytes longer than its fields")
    appended = bool(header[5] & _LOG_APPEND_TIME)
    timestamp = header[8] if appended else header[7] + since
    offset = header[0] + delta
    return ParsedRecord(offset, timestamp, int(appended), key, value, headers), end


def _headers(payload: memoryview, at: int, end: int) -> tuple[Headers, int]:
    count, at = decode_varint(payload, at)
    headers: list[tuple[str, bytes | None]] = []
    reason = None
    for _ in range(count):
        raw, at = _bytes(payload, at, end)
        value, at = _bytes(payload, at, end)
        name = (raw or b"").decode("utf-8", "backslashreplace")
        if name.encode() != raw and reason is None:
            reason = f"the name of a header is not UTF-8: '{name}'"
        headers.append((name, value))
    return (unreadable(reason, headers) if reason else tuple(headers)), at


def _bytes(payload: memoryview, at: int, end: int) -> tuple[bytes | None, int]:
    length, at = decode_varint(payload, at)
    if length < 0:
        return None, at
    if at + length > end:
        raise ValueError("with a field beyond its end")
    return bytes(payload[at : at + length]), at + length


def _old_codec(raw: memoryview) -> int:
    return raw[_MAGIC + 1] & _CODEC_MASK


def _old_value(raw: memoryview) -> memoryview:
    # After the attributes comes, from version 1 on, a timestamp; then key and value.
    at = _MAGIC + 2 + (8 if raw[_MAGIC] else 0)
    (key_length,) = struct.unpack_from(">i", raw, at)
    return raw[at + 4 + max(key_length, 0) + 4 :]
