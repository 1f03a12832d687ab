"""Installations and claims of shops, as records have them; and the facts of shops."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from billing_stream.audit.verify.log_records import micros, micros_of
from billing_stream.audit.verify.odd_json import InvalidInput
from billing_stream.records.record_ref import RecordRef

CHARS_MAX = 255


class Shop(NamedTuple):
    """A record of `billing.shops.v1`; `gone`: the shop is the merchant's no longer."""

    name: str
    merchant: str
    gone: bool = False
    shop_id: str | None = None
    # In microseconds.
    installed: int | None = None
    uninstalled: bool = False
    again: bool = False
    if_free: bool = False


class ShopRow(NamedTuple):
    """Who has a shop, by its row. Releases up to 0.5.1 wrote the merchant alone."""

    merchant: str | None = None
    shop_id: str | None = None
    installed: int | None = None
    uninstalled: bool = False


class Said(NamedTuple):
    """A claim with its place: topic, partition and offset, and its time in microseconds."""

    ref: RecordRef
    at: int
    shop: Shop


@dataclass
class ShopFacts:
    """What was read of shops: claims and rows by name; how often each merchant claimed each."""

    said: dict[str, list[Said]] = field(default_factory=lambda: defaultdict(list))
    rows: dict[str, ShopRow] = field(default_factory=dict)
    registered: Counter[tuple[str, str]] = field(default_factory=Counter)
    unregistered: Counter[tuple[str, str]] = field(default_factory=Counter)

    def take(self, ref: RecordRef, at: int, shop: Shop, letter: str) -> None:
        """A record of `billing.shops.v1`, or the copy of one that was a dead letter."""
        self.said[shop.name].append(Said(ref, at, shop))
        if not (shop.again or shop.if_free or shop.uninstalled or letter):
            counted = self.unregistered if shop.gone else self.registered
            counted[shop.name, shop.merchant] += 1

    def take_row(self, name: str, value: bytes | None) -> None:
        """A row of the table. Raises KeyError, TypeError and ValueError."""
        if value is None:
            self.rows.pop(name, None)
        elif not value.startswith(b"{"):
            self.rows[name] = ShopRow(value.decode())
        else:
            row = msgspec.json.decode(value, type=dict[str, Any])
            installed = row.get("installed_at")
            self.rows[name] = ShopRow(
                row.get("merchant_id"),
                row.get("platform_shop_id"),
                None if installed is None else micros(installed),
                row.get("uninstalled", False),
            )


def said_of(data: Mapping[str, Any]) -> Shop:
    """A claim. Raises InvalidInput."""
    texts = [data.get(name) for name in ("platform", "domain", "merchant_id")]
    flags = [data.get(name, False) for name in ("gone", "uninstalled", "again", "if_free")]
    shop_id = data.get("platform_shop_id")
    if not all(isinstance(text, str) for text in texts):
        raise InvalidInput("a shop is platform, domain and merchant_id")
    if not all(isinstance(flag, bool) for flag in flags):
        raise InvalidInput("gone, uninstalled, again and if_free are true or false")
    if not isinstance(shop_id, str | None):
        raise InvalidInput("platform_shop_id is not a text")
    platform, domain, merchant = map(str, texts)
    gone, *others = map(bool, flags)
    installed = _moment(data.get("installed_at"))
    name = f"{platform}:{domain}".lower()
    return Shop(name, merchant, gone, shop_id, installed, *others)


def installation(data: Mapping[str, Any]) -> dict[str, Any]:
    """The shop's id and the time of an installation; an odd one is unknown (None)."""
    shop_id, installed = data.get("platform_shop_id"), data.get("installed_at")
    text = str(shop_id).strip() if type(shop_id) in (int, str) else ""
    usable = text.isprintable() and "\N{REPLACEMENT CHARACTER}" not in text
    moment: datetime | None = None
    if isinstance(installed, str):
        try:
            moment = msgspec.convert(installed, datetime)
            moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        except (msgspec.ValidationError, OverflowError):
            moment = None
    return {
        "shop_id": text if usable and 0 < len(text) <= CHARS_MAX else None,
        "installed": None if moment is None else micros_of(moment),
    }


def stated_installation(data: Mapping[str, Any]) -> dict[str, Any]:
    """The same of a command, where each must be valid. Raises InvalidInput."""
    shop_id = data.get("platform_shop_id")
    if shop_id is not None and not (isinstance(shop_id, str) and 0 < len(shop_id) <= CHARS_MAX):
        raise InvalidInput("platform_shop_id is not a text of 1 to 255 characters")
    return {"shop_id": shop_id, "installed": _moment(data.get("installed_at"))}


def _moment(said: Any) -> int | None:
    if said is None:
        return None
    try:
        moment = msgspec.convert(said, datetime)
    except msgspec.ValidationError:
        raise InvalidInput("installed_at is not a time") from None
    if moment.tzinfo is None:
        raise InvalidInput("installed_at has no time zone")
    return micros_of(moment)
