"""What the topics that are kept permanently still contain of a merchant, and where."""

import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from billing_stream.records import topics as names
from billing_stream.records.dead_letters import DeadLetter
from billing_stream.records.schemas import InputRecord
from billing_stream.records.topics import Topics
from billing_stream.tables.shops import SHOP_TAKEN

PERSONAL = (
    *("name", "email", "domain", "platform_shop_id", "return_url", "checkout_url"),
    *("cancel_url", "merchant_note"),
)
# What clients and operators choose: nothing keeps them from choosing a name.
CHOSEN = ("idempotency_key", "correlation_id")
# An id that this service made. One of that form that a client chose is taken for it.
_MADE = re.compile(r"((ops|backfill)/)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(/\d+)?")
WHOLE = "a whole record"

_letter = msgspec.json.Decoder(DeadLetter)


class Source(Protocol):
    """Where all committed records of topics are read from."""

    def read(self, topics: Sequence[str]) -> AsyncIterator[Sequence[InputRecord]]:
        """All of them, in the order of each partition."""


class ResidualData(Struct, frozen=True):
    """Records of one partition with something personal in them; `what` are the fields."""

    topic: str
    partition: int
    what: tuple[str, ...]
    offsets: tuple[int, ...]


def topics_of(topics: Topics) -> list[str]:
    """The topics in which something personal may stand, and stay."""
    kept = (names.MERCHANT_CREATED, names.COMMANDS, names.SHOPS, names.JOURNAL, names.DEAD_LETTERS)
    events = (names.event_type(kind) for kind in names.EVENT_TYPES)
    return [topics.name(topic) for topic in (*kept, *events)]


async def find(source: Source, topics: Topics, merchant_id: str) -> list[ResidualData]:
    """All of it; reads these topics from end to end."""
    merchant_id = merchant_id.lower()
    offsets: dict[tuple[str, int], list[int]] = {}
    fields: dict[tuple[str, int], set[str]] = {}
    letters = topics.name(names.DEAD_LETTERS)
    needles = (merchant_id.encode(), merchant_id.upper().encode())
    async for records in source.read(topics_of(topics)):
        for record in records:
            if record.topic == letters:
                what = {WHOLE} if _letter_is_about(record, merchant_id) else set()
            else:
                near = any(needle in (record.value or b"") for needle in needles)
                what = set(_personal(record.value or b"", merchant_id)) if near else set()
            if what:
                tp = record.topic, record.partition
                offsets.setdefault(tp, []).append(record.offset)
                fields.setdefault(tp, set()).update(what)
    return [
        ResidualData(*tp, tuple(sorted(fields[tp])), tuple(found))
        for tp, found in sorted(offsets.items())
    ]


def _letter_is_about(record: InputRecord, merchant_id: str) -> bool:
    """By its key, or the record that it holds; a claim of a shop also by who has that."""
    if (record.key or b"").decode("utf-8", "replace").lower() == merchant_id:
        return True
    try:
        letter = _letter.decode(record.value or b"")
    except msgspec.DecodeError:
        return False
    held = merchant_id.encode() in (letter.value or b"").lower()
    return held or (letter.reason.startswith(SHOP_TAKEN) and merchant_id in letter.reason)


def _personal(value: bytes, merchant_id: str) -> Iterator[str]:
    try:
        whole = msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError):
        # It is a dead letter, too, and found there.
        return
    found = list(_objects(whole))
    if not any(str(said.get("merchant_id")).lower() == merchant_id for said in found):
        return
    for said in found:
        if str(said.get("merchant_id")).lower() == merchant_id:
            yield from (name for name in PERSONAL if said.get(name))
        yield from (name for name in CHOSEN if _is_chosen(said.get(name)))


def _is_chosen(value: Any) -> bool:
    return isinstance(value, str) and bool(value) and _MADE.fullmatch(value) is None


def _objects(whole: Any) -> Iterator[Mapping[str, Any]]:
    """The payload, bare or in its envelope, or the command of an entry of the journal."""
    if isinstance(whole, dict):
        yield from (
            one for one in (whole, whole.get("data"), whole.get("command")) if isinstance(one, dict)
        )
