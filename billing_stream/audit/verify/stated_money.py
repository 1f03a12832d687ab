"""Amounts and currencies that input records state."""

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from billing_stream.audit.verify.odd_json import InvalidInput

_AMOUNT = re.compile(r"[0-9]{1,12}(\.[0-9]{1,6})?")
DECIMALS_MAX = 6


def money_of(value: Any, name: str = "amount") -> str | None:
    """The decimal text of an amount; None: it is not stated. Raises InvalidInput."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        raise InvalidInput(f"{name} is not a sum of money")
    try:
        amount = Decimal(value)
    except InvalidOperation:
        raise InvalidInput(f"{name} is not a sum of money") from None
    text = f"{amount:f}" if amount.is_finite() and abs(amount.adjusted()) < 20 else ""
    if len(text.partition(".")[2]) > DECIMALS_MAX:
        text = text.rstrip("0").rstrip(".")
    if _AMOUNT.fullmatch(text) is None:
        raise InvalidInput(f"{name} is not a sum of money")
    return text


def currency_of(data: Mapping[str, Any]) -> str | None:
    """The code of the field `currency`; None: it is not stated. Raises InvalidInput."""
    value = data.get("currency")
    if value is not None and not (isinstance(value, str) and re.fullmatch("[A-Z]{3}", value)):
        raise InvalidInput("the currency is not three capitals")
    return value
