"""The records of one transaction as rows: of each key the last, and how far they reach."""

from collections.abc import Mapping, Sequence

from aiokafka import TopicPartition
from msgspec import Struct, field

from billing_stream.projector.positions import LastRecord
from billing_stream.projector.projected_records import (
    EventRow,
    Gone,
    MerchantRow,
    Record,
    Records,
    Row,
    UnprojectableRecord,
)


class Reject(Struct, frozen=True):
    """A record that fits into no table, and why."""

    record: Record
    reason: str


class Batch(Struct):
    """Rows written at once.

    `begins` are the offsets from which it was read, `ends` the next ones to be read, `last` the
    records before those.
    """

    begins: dict[TopicPartition, int] = field(default_factory=dict)
    ends: dict[TopicPartition, int] = field(default_factory=dict)
    last: dict[TopicPartition, LastRecord] = field(default_factory=dict)
    rows: dict[str, dict[str, Struct | None]] = field(default_factory=dict)
    rejects: list[Reject] = field(default_factory=list)
    records: int = 0


def batch_of(
    records: Records,
    read: Mapping[TopicPartition, Sequence[Record]],
    begins: Mapping[TopicPartition, int],
) -> Batch:
    """Decode the records. None, after the key, stands for a deleted row."""
    last = {tp: LastRecord.of(found[-1]) for tp, found in read.items()}
    batch = Batch({tp: begins[tp] for tp in read}, ends_of(read), last)
    for tp, found in read.items():
        batch.records += len(found)
        rows = batch.rows.setdefault(records.table(tp[0]), {})
        for record in found:
            try:
                put(rows, records.decode(record))
            except UnprojectableRecord as error:
                batch.rejects.append(Reject(record, str(error)))
    return batch


def put(rows: dict[str, Struct | None], row: Row | Gone | None) -> None:
    """Add what a record became to the rows of its table, in place of an earlier one."""
    if isinstance(row, EventRow):
        rows[row.event_id] = row
    elif isinstance(row, MerchantRow):
        rows[row.merchant_id] = row
    elif isinstance(row, Gone):
        rows[row.key] = None
    elif row is not None:
        rows[row.id] = row


def rejecting(record: Record, begin: int, reason: str) -> Batch:
    """The batch that puts one record aside."""
    tp = (record.topic, record.partition)
    last = {tp: LastRecord.of(record)}
    return Batch({tp: begin}, {tp: record.offset + 1}, last, {}, [Reject(record, reason)], 1)


def halves(
    read: Mapping[TopicPartition, Sequence[Record]],
) -> tuple[dict[TopicPartition, Sequence[Record]], dict[TopicPartition, Sequence[Record]]]:
    """Split two or more records in two, each partition's in their order."""
    half = sum(len(found) for found in read.values()) // 2
    first: dict[TopicPartition, Sequence[Record]] = {}
    second: dict[TopicPartition, Sequence[Record]] = {}
    for tp, found in read.items():
        taken = min(len(found), half)
        half -= taken
        if taken:
            first[tp] = found[:taken]
        if taken < len(found):
            second[tp] = found[taken:]
    return first, second


def ends_of(read: Mapping[TopicPartition, Sequence[Record]]) -> dict[TopicPartition, int]:
    """The next offset to be read of each partition."""
    return {tp: found[-1].offset + 1 for tp, found in read.items()}
