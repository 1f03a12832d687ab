"""What the log stores of the catalogue."""

from msgspec import Struct

from billing_stream.domain.commands import Currency
from billing_stream.domain.model import Instant

OLD_ROWS_KEY = "currency-of-old-rows"


class CurrencyOfOldRows(
    Struct, frozen=True, gc=False, tag="currency_of_old_rows", tag_field="record"
):
    """`billing.catalogue.v1`: the currency of all purchases that releases up to 0.5.1 opened.

    Their rows and events do not have it. The first such record of the log counts.
    """

    currency: Currency
    at: Instant
