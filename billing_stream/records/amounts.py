"""Sums of money as they come, numbers or text, to the one decimal text that is kept."""

import re
from decimal import Decimal

from billing_stream.domain.commands import AMOUNT_TEXT

DECIMALS_MAX = 6
NOT_AN_AMOUNT = (
    f"must be a sum of money such as 9.99: without a sign, up to 12 digits and {DECIMALS_MAX} "
    "decimals"
)

_AMOUNT = re.compile(AMOUNT_TEXT)
# Beyond this no text is made of it: an exponent of a million is a text of a megabyte.
_MAGNITUDE_MAX = 20


def amount_text(amount: Decimal, name: str = "amount") -> str:
    """The amount as decimal text; without trailing zeros where there are more than 6 decimals.

    Raises ValueError, which names the field and the rule.
    """
    if not amount.is_finite() or abs(amount.adjusted()) >= _MAGNITUDE_MAX:
        raise ValueError(f"`{name}` {NOT_AN_AMOUNT}")
    text = f"{amount:f}"
    if len(text.partition(".")[2]) > DECIMALS_MAX:
        # As numeric(20,8) columns print it.
        text = text.rstrip("0").rstrip(".")
    if _AMOUNT.match(text) is None:
        raise ValueError(f"`{name}` {NOT_AN_AMOUNT}")
    return text
