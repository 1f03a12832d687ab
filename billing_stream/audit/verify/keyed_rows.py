"""Rows that have keys of their own, on the partition of their key: shops and charges."""

import msgspec

from billing_stream.audit.verify.facts import History
from billing_stream.audit.verify.log_records import Record
from billing_stream.audit.verify.row_versions import require_known


def shop(history: History, record: Record) -> None:
    """A row of shops. Raises NewerState, KeyError, TypeError and ValueError."""
    require_known(record)
    history.shops.take_row((record.key or b"").decode(), record.value)


def charge(history: History, record: Record) -> None:
    """A row of charges: who has each, or what waits for it. Raises NewerState and ValueError."""
    require_known(record)
    key, rows = (record.key or b"").decode(), history.charges.rows
    if record.value is None:
        rows.pop(key, None)
    else:
        rows[key] = msgspec.json.decode(record.value)
