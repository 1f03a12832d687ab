"""Purchases of releases up to 0.5.1 say no currency: the log, or a setting, says which it was."""

from typing import TypeVar

import msgspec
from msgspec import Struct

from billing_stream.errors import SettingsError

Row = TypeVar("Row", bound=Struct)


def in_old_currency(purchase: Row, currency: str | None) -> Row:
    """The row of such a purchase, with its currency. Raises SettingsError when none is known."""
    if currency is None:
        raise SettingsError(
            "BILLING_CURRENCY_OF_OLD_ROWS is not set, and this log has purchases of 0.5.1 or "
            "older, which did not store their currency. Set it to what BILLING_CURRENCY was until "
            "now, e.g. BILLING_CURRENCY_OF_OLD_ROWS=USD, for all workers and projectors; once the "
            "first worker has started, the log has it (`billing-stream docs upgrade`)"
        )
    return msgspec.structs.replace(purchase, currency=currency)
