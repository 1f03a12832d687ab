"""Which topics the rows of a partition are in: one that was created again lacks them.

Each changelog of a partition has a record with the ids of all of them. A changelog without it,
where another one has it, was created again, even if workers have written to it since.
"""

from collections.abc import Iterator, Mapping

import msgspec

from billing_stream.engine.log import CHANGELOGS_KEY, Log
from billing_stream.engine.partition_processor import Outgoing
from billing_stream.errors import LostChangelog
from billing_stream.kafka.topic_logs import ChangelogIds, decode_ids
from billing_stream.records.upcasting.versions import WRITTEN

Stored = Mapping[str, ChangelogIds]
"""The record of the changelog of each table, where it has one."""


class StoredIds:
    """What the changelogs of one partition say of themselves, read by a restore of this log."""

    def __init__(self, partition: int, log: Log) -> None:
        self._partition = partition
        self._log = log
        self._stored: dict[str, ChangelogIds] = {}

    def take(self, table: str, value: bytes | None) -> None:
        """Take the record of the changelog of `table`."""
        self._stored[table] = decode_ids(value or b"")

    def require_all(self) -> None:
        """Raise LostChangelog when one of them lacks the rows that it had."""
        now = self._log.ids
        why = None if now is None else lost_changelogs(self._stored, now)
        if why is not None:
            raise LostChangelog(self._partition, why)

    def missing(self) -> Iterator[Outgoing]:
        """The records to be written, so that each changelog has the ids of all."""
        now = self._log.ids
        for table, topic in self._log.changelogs.items():
            if now is not None and table in now.tables and self._stored.get(table) != now:
                yield Outgoing(topic, CHANGELOGS_KEY, msgspec.json.encode(now), WRITTEN)


def created_again(log: Log, now: ChangelogIds) -> str | None:
    """The table with a changelog that is another topic than at the last restore, or None."""
    before = log.ids.tables if log.ids is not None else {}
    return next((t for t, id in before.items() if now.tables.get(t, id) != id), None)


def lost_changelogs(stored: Stored, now: ChangelogIds) -> str | None:
    """Why these changelogs do not belong together, or None.

    With none stored, a release before 0.6.0 wrote them. When all of them are other topics than they
    say, all were copied, records included.
    """
    marked = {table for ids in stored.values() for table in ids.tables}
    lost = sorted(table for table in marked & now.tables.keys() if table not in stored)
    if lost:
        return (
            f"the changelog of {' and '.join(lost)} was deleted and created again: it lacks rows. "
            "See `billing-stream docs restore`"
        )
    copied = sorted(
        table for table in stored if stored[table].tables.get(table) != now.tables.get(table)
    )
    if copied and len(copied) < len(stored):
        return (
            f"the changelog of {' and '.join(copied)} is a copy, and those of other tables are "
            "not: rows are only right together. See `billing-stream docs restore`"
        )
    return None
