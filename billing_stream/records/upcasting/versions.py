"""The version of the state that each changelog record carries, and the row that it stands for.

Every record of a changelog, also one that deletes a row, has a header `state` with the version in
which it was written. Releases up to 0.4.0 wrote none: version 1. A program reads every version up
to its own and writes its own; it takes no row of a newer one.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

import msgspec

from billing_stream.errors import NewerState, UnreadableRow
from billing_stream.records import topics
from billing_stream.records.record_ref import RecordRef
from billing_stream.records.unreadable import why_unreadable
from billing_stream.records.upcasting.steps import Row, Step, refunds_of_0_1

VERSION = 5
"""The version that this program writes, and the newest that it reads."""
UNMARKED = 1
"""The version of what has no header."""
HEADER = "state"
WRITTEN = ((HEADER, b"%d" % VERSION),)
"""The headers of every changelog record that is written."""

STEPS: Mapping[int, Mapping[str, Step]] = MappingProxyType(
    {
        1: MappingProxyType({topics.CREDIT_PURCHASES: refunds_of_0_1}),
        2: MappingProxyType({}),
        3: MappingProxyType({}),
        4: MappingProxyType({}),
    }
)
"""Of each version before the present one: by table, what makes its rows rows of the next one.

A table that is not named has the same rows in both. A purchase of version 2 says no currency: that
is not in the row, so who reads it gives it the one that the log stores (`CurrencyOfOldRows`). Rows
of 3 have no disputes, and of refunds a sum in the currency of the purchase; a log of 3 has no table
of charges: its purchases register them at the first start.
"""
# Positions, marks and the like, which are no rows.
_RESERVED = b"\x00"


class ChangelogRecord(Protocol):
    """A record of a changelog, as the Kafka client gives it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


def upcast(table: str, record: ChangelogRecord) -> bytes | None:
    """The value of a changelog record as this program would have written it.

    Raises NewerState when a newer program wrote it: what that means is not known here;
    UnreadableRow when a client could not read it; msgspec.DecodeError when an older row
    is not a JSON object.
    """
    if record.headers == WRITTEN:
        return record.value
    why = why_unreadable(record.headers)
    if why is not None:
        raise UnreadableRow(*RecordRef.of(record), why)
    version = version_of(record)
    if version > VERSION:
        raise NewerState(
            f"{RecordRef.of(record)} is of state version {version}, "
            f"and this program reads up to {VERSION}: a newer release wrote it. Run that release "
            "or a later one here, and see `billing-stream docs upgrade` before going back"
        )
    steps = [STEPS[number][table] for number in range(version, VERSION) if table in STEPS[number]]
    value = record.value
    if not steps or value is None or (record.key or b"").startswith(_RESERVED):
        return value
    row: Row = msgspec.json.decode(value, type=Row)
    for step in steps:
        row = step(row)
    return msgspec.json.encode(row)


def version_of(record: ChangelogRecord) -> int:
    """The version in which a changelog record was written."""
    for name, value in record.headers:
        if name == HEADER:
            # What is no number was written by none of ours that is known: newer than all.
            return int(value) if value and value.isdigit() else VERSION + 1
    return UNMARKED
