"""The six tables: the key of each, its row, and how rows come back from its changelog.

The changelog of a table is `Topics.changelog(name)`: compacted, one record per key, JSON. Rows are
changed by lanes only.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from msgspec import Struct

from billing_stream.domain.charges import NOTHING, Charge
from billing_stream.domain.model import Adjustment, Merchant, Purchase
from billing_stream.domain.outcomes import StoredResponse
from billing_stream.domain.shops import Shop
from billing_stream.engine.partition_processor import ChangelogRows
from billing_stream.engine.partitioner import partition_of
from billing_stream.errors import SettingsError
from billing_stream.records import topics
from billing_stream.records.upcasting.old_currency import in_old_currency
from billing_stream.tables import codecs
from billing_stream.tables.charge_rows import put_charges
from billing_stream.tables.rows import PartitionRows
from billing_stream.tables.shop_rows import put_shops

Row = TypeVar("Row")
Restorer = Callable[[ChangelogRows], None]
# Rows of each batch of a changelog whose partition is looked at.
OWN_CHECKED = 8


class Table(Struct, frozen=True):
    """One table. `key` names the parts of a changelog record's key; `row` is what its value holds.

    `restorer` makes, of committed rows and the currency of old rows, what puts records of the
    changelog into them.
    """

    name: str
    key: str
    row: type[Any]
    restorer: Callable[[PartitionRows, str | None], Restorer]


def _never_deleted(put: Callable[[Row], None], decode: Callable[[bytes], Row]) -> Restorer:
    def restore(read: ChangelogRows) -> None:
        for _, value in read:
            if value is not None:
                put(decode(value))

    return restore


def _purchases(into: PartitionRows, currency: str | None) -> Restorer:
    def put(purchase: Purchase) -> None:
        into.put_purchase(purchase if purchase.currency else in_old_currency(purchase, currency))

    return _never_deleted(put, codecs.purchase.decode)


def _answers(into: PartitionRows, _: str | None) -> Restorer:
    def restore(read: ChangelogRows) -> None:
        for key, value in read:
            if value is None:
                into.drop_answer(*codecs.split_answer_key(key.decode()))
            else:
                into.put_answer(codecs.answer.decode(value))

    return restore


def _shops(into: PartitionRows, _: str | None) -> Restorer:
    def restore(read: ChangelogRows) -> None:
        for key, value in read:
            shop = None if value is None else codecs.shop(value)
            put_shops(into.shops, {key.decode(): shop})

    return restore


def _charges(into: PartitionRows, _: str | None) -> Restorer:
    def restore(read: ChangelogRows) -> None:
        for key, value in read:
            charge = NOTHING if value is None else codecs.charge.decode(value)
            put_charges(into, {key.decode(): charge})

    return restore


TABLES = (
    Table(
        topics.BILLING_RECORDS,
        "merchant_id",
        Merchant,
        lambda into, _: _never_deleted(into.put_merchant, codecs.merchant.decode),
    ),
    Table(
        topics.CREDIT_PURCHASES,
        "purchase_id",
        Purchase,
        _purchases,
    ),
    Table(
        topics.CREDIT_ADJUSTMENTS,
        "adjustment_id",
        Adjustment,
        lambda into, _: _never_deleted(into.put_adjustment, codecs.adjustment.decode),
    ),
    Table(topics.IDEMPOTENCY_KEYS, "merchant_id/idempotency_key", StoredResponse, _answers),
    Table(topics.SHOPS_TABLE, "platform:domain", Shop, _shops),
    Table(topics.CHARGES_TABLE, "platform:charge_id", Charge, _charges),
)


def require_own(table: str, rows: ChangelogRows, partition: int, partitions: int) -> None:
    """Raise SettingsError where merchants are of another partition, by a few of these rows.

    Lanes of another number would decide without the rows of half of the merchants.
    """
    for key, _ in rows[:OWN_CHECKED] if table == topics.BILLING_RECORDS else ():
        found = partition_of(key.decode(), partitions)
        if found != partition:
            raise SettingsError(
                f"partition {partition} has merchants of partition {found}: this log was not "
                f"written with BILLING_PARTITIONS={partitions}. Partitions that were added to "
                "topics later do not count (`billing-stream docs scale`)"
            )


def restorers(into: PartitionRows, currency_of_old_rows: str | None) -> dict[str, Restorer]:
    """Of each table by its name: puts what was read of its changelog into these rows."""
    return {table.name: table.restorer(into, currency_of_old_rows) for table in TABLES}
