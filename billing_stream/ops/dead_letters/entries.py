"""A dead letter as it is read: what the lanes wrote, its reference, its merchant."""

import re
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from billing_stream.domain.commands import UUID_TEXT
from billing_stream.ops.dead_letters.desk_connection import Cluster
from billing_stream.records import forwarding, schemas, topics
from billing_stream.records.dead_letters import DeadLetter, dead_letter, decode_letter
from billing_stream.records.http_dead_letters import http_delivery
from billing_stream.records.invalid_fields import readable
from billing_stream.records.record_ref import RecordRef
from billing_stream.records.timestamps import instant

_json = msgspec.json.Decoder().decode
_uuid = re.compile(UUID_TEXT)


class DeadLetterEntry(Struct, frozen=True):
    """A dead letter. `ref` is its own, `at` when it became one.

    `root` is the first letter of its line: itself, or the one of which it is a copy that failed
    again. `merchant`: as far as value or key name one.
    """

    ref: str
    partition: int
    offset: int
    at: datetime
    record: DeadLetter
    root: str
    merchant: str | None

    @property
    def source(self) -> str:
        """The reference of its record; of a webhook over HTTP, its platform and delivery."""
        return str(http_delivery(self.record) or RecordRef.of(self.record))


def letter_of(record: Any) -> DeadLetterEntry:
    """The letter in a record of the topic of dead letters."""
    ref = str(RecordRef.of(record))
    try:
        letter = decode_letter(record.value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # Not ours: shown all the same, so that it can be discarded.
        letter = dead_letter(record, f"this dead letter cannot be read: {error}")
    return DeadLetterEntry(
        ref,
        record.partition,
        record.offset,
        instant(max(record.timestamp, 0)),
        letter,
        _first_of(letter) or ref,
        _merchant_of(letter),
    )


def _first_of(letter: DeadLetter) -> str | None:
    # In other topics the header is any producer's, and says nothing.
    copied = letter.topic.endswith(topics.COMMANDS)
    return forwarding.redriven_from(letter.headers) if copied else None


def parse_name(cluster: Cluster, name: str) -> tuple[int, int]:
    """Partition and offset of a letter by its reference, or in short: `3@17`.

    Raises ValueError when it is neither.
    """
    text = name if "[" in name else f"{cluster.letters}[{name.replace('@', ']@')}"
    topic, partition, offset = RecordRef.parse(text)
    if cluster.topics.base(topic) != cluster.topics.base(cluster.letters):
        raise ValueError(f"{name!r} names no dead letter; an example: {cluster.letters}[3]@17")
    return partition, offset


def payload_of(value: bytes | None) -> Any:
    """The JSON of a record without its envelope, or None where the record is not an object."""
    try:
        return _json(schemas.payload_of(value or b""))
    except (ValueError, RecursionError):
        return None


def kind_of(reason: str) -> str:
    """A reason without the parts that differ between letters, to count by."""
    reason = readable(reason)
    code, colon, _ = reason.partition(":")
    if colon and re.fullmatch(r"[A-Z_]+", code):
        return code
    return re.sub(r"\d+", "N", re.sub(r"'[^']*'|\"[^\"]*\"", "...", reason))[:120]


def _merchant_of(letter: DeadLetter) -> str | None:
    payload = payload_of(letter.value)
    said = payload.get("merchant_id") if isinstance(payload, dict) else None
    for text in (said, (letter.key or b"").decode("utf-8", "replace")):
        if isinstance(text, str) and _uuid.match(text):
            return text.lower()
    return None
