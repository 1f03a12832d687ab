"""Changelog records as rows, and which record it is that cannot be restored."""

from collections.abc import Sequence

from billing_stream.engine.log import OnRows
from billing_stream.errors import UnreadableRow, is_fatal
from billing_stream.records.record_ref import RecordRef
from billing_stream.records.upcasting.versions import WRITTEN, ChangelogRecord, upcast


def restore_rows(
    on_rows: OnRows, partition: int, table: str, records: Sequence[ChangelogRecord]
) -> None:
    """Hand on rows as this program would have written them.

    Raises UnreadableRow, with the place of the first record that cannot be restored, NewerState,
    and fatal errors of a store.
    """
    try:
        _restore(on_rows, partition, table, records)
    except Exception as error:
        if is_fatal(error):
            raise
        # Once more, one by one: to restore a row twice changes nothing.
        for record in records:
            try:
                _restore(on_rows, partition, table, [record])
            except Exception as found:
                if is_fatal(found):
                    raise
                raise UnreadableRow(*RecordRef.of(record), found) from found
        raise


def _restore(
    on_rows: OnRows, partition: int, table: str, records: Sequence[ChangelogRecord]
) -> None:
    rows = [(_key(r), r.value if r.headers == WRITTEN else upcast(table, r)) for r in records]
    on_rows(partition, table, rows)


def _key(record: ChangelogRecord) -> bytes:
    if record.key is None:
        raise ValueError("it has no key")
    return record.key
