"""Decimal amounts as the whole minor units that Stripe counts in, and back."""

import re
from decimal import Decimal
from types import MappingProxyType

from billing_stream.domain.commands import AMOUNT_TEXT
from billing_stream.domain.currencies import DECIMALS
from billing_stream.errors import PlatformError

# Where Stripe counts otherwise than ISO 4217: https://docs.stripe.com/currencies
_OWN_DECIMALS = MappingProxyType({"ISK": 2, "UGX": 2, "MGA": 0})
_WHOLE_IN_HUNDREDTHS = frozenset({"ISK", "UGX"})


def to_minor(amount: str, currency: str) -> int:
    """The number of minor units of `amount` (decimal text); never rounded.

    Raises PlatformError when it is not a positive amount that Stripe can charge.
    """
    # At most 18 digits, so that no context of decimal rounds them.
    if re.match(AMOUNT_TEXT, amount) is None or not Decimal(amount):
        raise PlatformError("the amount is not one that can be charged")
    code = currency.upper()
    minor = Decimal(amount).scaleb(_decimals(code))
    if minor % _step(code):
        raise PlatformError(f"the amount has more decimals than can be charged in {code}")
    return int(minor)


def from_minor(minor: int, currency: str) -> str:
    """The decimal text of a number of minor units: 999 in USD is "9.99", 500 in JPY is "500"."""
    return f"{Decimal(minor).scaleb(-_decimals(currency.upper())):f}"


def _decimals(code: str) -> int:
    return _OWN_DECIMALS.get(code, DECIMALS.get(code, 2))


def _step(code: str) -> int:
    """Stripe charges only multiples of this, in minor units."""
    if code in _WHOLE_IN_HUNDREDTHS:
        return 100
    return 10 if _decimals(code) == 3 else 1
