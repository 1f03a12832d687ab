"""Text of the old database to values. None is what was not there or cannot be read."""

import re
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation

from billing_stream.domain.commands import UUID_TEXT
from billing_stream.domain.currencies import DECIMALS

# Whatever lies outside is no time of this business, but infinity or a slip.
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
_LATEST = datetime(2100, 1, 1, tzinfo=UTC)
_UUID = re.compile(UUID_TEXT)
_AMOUNT_LIMIT = Decimal(10) ** 12
CREDITS_MAX = 1_000_000_000
CHARGE_CHARS_MAX = 255


def uuid_of(text: str | None) -> str | None:
    """A uuid in lower case, of any spelling with hyphens."""
    found = (text or "").strip()
    return found.lower() if _UUID.match(found) else None


def moment_of(text: str | None) -> datetime | None:
    """A time in UTC; one without a time zone is meant so.

    >>> moment_of("2024-05-01 10:00:00.123").isoformat()
    '2024-05-01T10:00:00.123000+00:00'
    """
    try:
        moment = datetime.fromisoformat((text or "").strip())
    except ValueError:
        return None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment if _EARLIEST <= moment < _LATEST else None


def flag_of(text: str | None) -> bool | None:
    """A truth value as databases write it."""
    word = (text or "").strip().lower()
    if word in ("true", "t", "1", "yes"):
        return True
    return False if word in ("false", "f", "0", "no") else None


def whole_of(text: str | None) -> int | None:
    """A whole number, also one that was written with a fraction of nothing."""
    number = _number(text)
    return int(number) if number is not None and number == number.to_integral_value() else None


def amount_of(text: str | None, currency: str) -> str | None:
    """A positive amount of money, rounded to the nearest that its currency has.

    >>> amount_of(" 9.9899999999999998 ", "USD"), amount_of("1500.0", "JPY")
    ('9.99', '1500')
    """
    number = _number(text)
    if number is None or not 0 < number < _AMOUNT_LIMIT:
        return None
    rounded = number.quantize(Decimal(1).scaleb(-DECIMALS.get(currency, 2)))
    return f"{rounded:f}" if 0 < rounded < _AMOUNT_LIMIT else None


def charge_of(text: str | None) -> str | None:
    """A charge without blanks around it; None for none, and for one that no platform gives."""
    charge = (text or "").strip()
    usable = 0 < len(charge) <= CHARGE_CHARS_MAX and charge.isprintable()
    return charge if usable else None


def _number(text: str | None) -> Decimal | None:
    try:
        number = Decimal((text or "").strip())
    except InvalidOperation:
        return None
    # Beyond 20 digits either way nothing is meant, and computing with it costs.
    return number if number.is_finite() and abs(number.adjusted()) < 20 else None
