"""A merchant as the service before this one had it, read from a command. Times in microseconds."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from billing_stream.audit.verify.log_records import micros_of

FIELDS = (
    "created_at",
    "trial_available",
    "trial_started_at",
    "trial_ends_at",
    "last_purchase_at",
    "purchases",
)
PURCHASES_MAX = 100
CREDITS_MAX = 1_000_000_000
_STATUSES = ("pending", "completed", "failed", "expired")
_PLATFORMS = ("shopify", "stripe", "custom")
_UUID = re.compile(r"[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_AMOUNT = re.compile(r"[0-9]{1,12}(\.[0-9]{1,6})?")
_CURRENCY = re.compile(r"[A-Z]{3}")
_CHARGE = re.compile(r"[^\x00-\x1f\x7f]{1,255}")
_Moment = Annotated[datetime, Meta(tz=True)]


class OldPurchase(NamedTuple):
    """A purchase there."""

    id: str
    credits: int
    amount: str
    status: str
    platform: str
    created: int
    expires: int
    charge: str | None
    paid: int | None
    currency: str | None


class Old(NamedTuple):
    """A merchant there, with some of its purchases. `used`: its trial."""

    created: int
    used: bool
    started: int | None
    ends: int | None
    last_paid: int | None
    purchases: tuple[OldPurchase, ...]


def read_old(data: Mapping[str, Any]) -> Old:
    """The content of the command. ValueError when it is invalid."""
    available = data.get("trial_available", True)
    purchases = data.get("purchases", [])
    if not isinstance(available, bool):
        raise ValueError("trial_available is neither true nor false")
    if not isinstance(purchases, list) or len(purchases) > PURCHASES_MAX:
        raise ValueError(f"the purchases are not a list of {PURCHASES_MAX} at most")
    return Old(
        _moment(data, "created_at"),
        not available,
        _moment_or_none(data, "trial_started_at"),
        _moment_or_none(data, "trial_ends_at"),
        _moment_or_none(data, "last_purchase_at"),
        tuple(_purchase(purchase) for purchase in purchases),
    )


def _purchase(data: Any) -> OldPurchase:
    if not isinstance(data, dict):
        raise ValueError("a purchase is not an object")
    credits, charge = data.get("credits"), data.get("platform_charge_id")
    if type(credits) is not int or not 0 < credits <= CREDITS_MAX:
        raise ValueError("the credits are not a whole number above 0")
    amount = _matching(data, "amount", _AMOUNT)
    if not amount.strip("0."):
        raise ValueError("the amount is not above 0")
    return OldPurchase(
        _matching(data, "id", _UUID).lower(),
        credits,
        amount,
        _one_of(data, "status", _STATUSES),
        _one_of(data, "platform", _PLATFORMS),
        _moment(data, "created_at"),
        _moment(data, "expires_at"),
        None if charge is None else _matching(data, "platform_charge_id", _CHARGE),
        _moment_or_none(data, "completed_at"),
        None if data.get("currency") is None else _matching(data, "currency", _CURRENCY),
    )


def _one_of(data: Mapping[str, Any], name: str, words: tuple[str, ...]) -> str:
    value = data.get(name)
    if not isinstance(value, str) or value not in words:
        raise ValueError(f"{name} is not one of {', '.join(words)}")
    return value


def _matching(data: Mapping[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    value = data.get(name)
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        raise ValueError(f"{name} is missing")
    return value


def _moment(data: Mapping[str, Any], name: str) -> int:
    try:
        return micros_of(msgspec.convert(data.get(name), _Moment))
    except msgspec.ValidationError:
        raise ValueError(f"{name} is not a time") from None


def _moment_or_none(data: Mapping[str, Any], name: str) -> int | None:
    return None if data.get(name) is None else _moment(data, name)
