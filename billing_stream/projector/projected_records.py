"""What a committed record becomes: a row, a row that goes, an event, or nothing.

The structs have the columns of their tables, in that order; other fields of a record are not read.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import msgspec
from msgspec import Raw, Struct

from billing_stream.domain.model import Instant
from billing_stream.errors import UnreadableRow, is_fatal
from billing_stream.records import topics as names
from billing_stream.records.topics import Topics
from billing_stream.records.upcasting.old_currency import in_old_currency
from billing_stream.records.upcasting.versions import upcast

# Keys of the engine's own records in a changelog, which are no rows.
RESERVED = b"\x00"

NUL_MARK = "\N{SYMBOL FOR NULL}"
"""What takes the place of U+0000, which PostgreSQL stores in no text and no jsonb."""
# A backslash and what it escapes, so that an escaped backslash before `u0000` is left alone.
_ESCAPE = re.compile(rb"\\(u0000|.)", re.DOTALL)


class Record(Protocol):
    """A record as the Kafka client gives it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


class MerchantRow(Struct, frozen=True, gc=False):
    """A row of `billing_records`."""

    merchant_id: str
    trial_available: bool = True
    trial_started_at: Instant | None = None
    trial_ends_at: Instant | None = None
    total_credits_purchased: int = 0
    last_purchase_at: Instant | None = None
    created_at: Instant | None = None
    updated_at: Instant | None = None
    credits_adjusted: int = 0
    version: int = 0
    platform: str = ""
    domain: str = ""


class PurchaseRow(Struct, frozen=True, kw_only=True, gc=False):
    """A row of `credit_purchases`."""

    id: str
    merchant_id: str
    credits: int
    amount: str
    status: str
    platform: str
    platform_charge_id: str | None = None
    created_at: Instant
    completed_at: Instant | None = None
    expires_at: Instant
    version: int = 0
    currency: str = ""
    pack: str | None = None
    test: bool = False
    refunded_amount: str = "0"
    refunded_credits: int = 0
    disputed_credits: int = 0


class EventRow(Struct, frozen=True, gc=False):
    """A row of `billing_events`; `data` is JSON text."""

    event_id: str
    merchant_id: str
    event_type: str
    sequence: int
    cause: str | None
    correlation_id: str | None
    at: datetime
    credits_delta: int
    topic: str
    partition: int
    offset: int
    data: str


class Gone(Struct, frozen=True, gc=False):
    """The row with this key is no more."""

    key: str


class _Envelope(Struct, frozen=True, gc=False):
    event_id: str
    event_type: str
    timestamp: Instant
    data: Raw
    correlation_id: str | None = None


class _Data(Struct, frozen=True, gc=False):
    merchant_id: str


class _Credits(Struct, frozen=True, gc=False):
    merchant_id: str
    credits: int


Row = MerchantRow | PurchaseRow | EventRow

_merchant = msgspec.json.Decoder(MerchantRow)
_purchase = msgspec.json.Decoder(PurchaseRow)
_envelope = msgspec.json.Decoder(_Envelope)
_data = msgspec.json.Decoder(_Data)
_credits = msgspec.json.Decoder(_Credits)


class UnprojectableRecord(Exception):
    """A record that none of our workers should have written; the text is why."""


class Records:
    """Decodes the records of one app's topics.

    `currency_of_old_rows` is that of purchases that do not say it; None: there must be none.
    """

    def __init__(self, topics: Topics, currency_of_old_rows: str | None = None) -> None:
        self.currency_of_old_rows = currency_of_old_rows
        # The full names of the topics to be read.
        self.topics = topics.projected()
        self._merchants = topics.changelog(names.BILLING_RECORDS)
        self._purchases = topics.changelog(names.CREDIT_PURCHASES)
        self._signs = {
            topics.name(names.event_type(kind)): names.CREDITS_SIGN.get(kind, 0)
            for kind in names.EVENT_TYPES
        }

    def table(self, topic: str) -> str:
        """The table that the rows of this topic belong to."""
        if topic == self._merchants:
            return names.BILLING_RECORDS
        return names.CREDIT_PURCHASES if topic == self._purchases else "billing_events"

    def decode(self, record: Record) -> Row | Gone | None:
        """The content of the record; None when it is not a row.

        Raises UnprojectableRecord; NewerState and SettingsError, for which nothing may be rejected
        or left out.
        """
        try:
            sign = self._signs.get(record.topic)
            if sign is None:
                return self._row(record)
            return _event(record, sign)
        except UnprojectableRecord:
            raise
        except Exception as error:
            if is_fatal(error) and not isinstance(error, UnreadableRow):
                raise
            raise UnprojectableRecord(str(error) or type(error).__name__) from error

    def _row(self, record: Record) -> MerchantRow | PurchaseRow | Gone | None:
        key = record.key
        value = without_nul(upcast(self.table(record.topic), record))
        if key is None:
            raise UnprojectableRecord("the key is null")
        if key.startswith(RESERVED):
            return None
        if value is None:
            return Gone(key.decode())
        if record.topic == self._purchases:
            row = _purchase.decode(value)
            return row if row.currency else in_old_currency(row, self.currency_of_old_rows)
        merchant = _merchant.decode(value)
        # Known by a webhook that came before its merchant: the old service had no such rows.
        return merchant if merchant.created_at is not None else None


def without_nul(value: bytes | None) -> bytes | None:
    """JSON in which U+0000 of any text or name is NUL_MARK; all else as it was.

    >>> without_nul(rb'{"a": "x\\u0000y", "b": "\\\\u0000"}').decode()
    '{"a": "x␀y", "b": "\\\\\\\\u0000"}'
    """
    if value is None or rb"\u0000" not in value:
        return value
    mark = NUL_MARK.encode()
    return _ESCAPE.sub(lambda found: mark if found[1] == b"u0000" else found[0], value)


def _event(record: Record, sign: int) -> EventRow:
    if record.value is None:
        raise UnprojectableRecord("the value is null")
    envelope = _envelope.decode(without_nul(record.value) or b"")
    if sign:
        counted = _credits.decode(envelope.data)
        merchant_id, credits_delta = counted.merchant_id, sign * counted.credits
    else:
        merchant_id, credits_delta = _data.decode(envelope.data).merchant_id, 0
    headers = dict(record.headers)
    try:
        sequence = int(headers["sequence"] or b"")
    except (KeyError, ValueError):
        raise UnprojectableRecord("there is no header `sequence` with a number") from None
    cause = headers.get("cause")
    return EventRow(
        envelope.event_id,
        merchant_id,
        envelope.event_type,
        sequence,
        cause.decode().replace("\0", NUL_MARK) if cause is not None else None,
        envelope.correlation_id,
        envelope.timestamp,
        credits_delta,
        record.topic,
        record.partition,
        record.offset,
        bytes(envelope.data).decode(),
    )
