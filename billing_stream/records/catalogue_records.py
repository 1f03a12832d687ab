"""What the log stores of the catalogue."""

from msgspec import Struct

from billing_stream.domain.catalogue import CatalogueVersion
from billing_stream.domain.commands import Currency, Key
from billing_stream.domain.model import Instant

OLD_ROWS_KEY = "currency-of-old-rows"
VERSION_KEY = "version"
# One partition, so that there is one order.
PARTITION = 0


class CurrencyOfOldRows(
    Struct, frozen=True, gc=False, tag="currency_of_old_rows", tag_field="record"
):
    """`billing.catalogue.v1`: the currency of all purchases that releases up to 0.5.1 opened.

    Their rows and events do not have it. The first such record of the log counts.
    """

    currency: Currency
    at: Instant


class SetVersion(
    CatalogueVersion,
    frozen=True,
    gc=False,
    omit_defaults=True,
    tag="catalogue_version",
    tag_field="record",
):
    """`billing.catalogue.v1`: a version of the catalogue that was decided.

    Versions count from 1. From `effective_at` on purchases are opened under it, until another
    becomes effective. `command` is the record that asked for it, `set_at` its time; `by`, `reason`
    and `idempotency_key` are the command's.
    """

    set_at: Instant
    by: str
    reason: str
    command: str
    idempotency_key: Key | None = None


CatalogueRecord = CurrencyOfOldRows | SetVersion
