"""`evt.merchant.created.v1`: an installation of a merchant.

Releases up to 0.5.1 read neither the platform's id of the shop nor the time, so an invalid one is
unknown (None) and refuses nothing.
"""

from datetime import UTC, datetime

import msgspec
from msgspec import UNSET, Raw, UnsetType

from billing_stream.domain.commands import CreateMerchant
from billing_stream.records.foreign_formats import REPLACEMENT
from billing_stream.records.payloads import MerchantCreated

SHOP_ID_CHARS_MAX = 255

_created = msgspec.json.Decoder(MerchantCreated)
_shop_id: msgspec.json.Decoder[str | int | None] = msgspec.json.Decoder(str | int | None)
_installed_at: msgspec.json.Decoder[datetime | None] = msgspec.json.Decoder(datetime | None)


def installation(payload: bytes | Raw, came_from: str) -> CreateMerchant:
    """The command of a record. Raises DecodeError."""
    created = _created.decode(payload)
    return CreateMerchant(
        created.merchant_id.lower(),
        created.platform_name or "",
        created.domain or "",
        came_from,
        shop_id_of(created.platform_shop_id),
        installed_at_of(created.installed_at),
    )


def shop_id_of(said: bytes | Raw | UnsetType) -> str | None:
    """The platform's own id of a shop, of JSON: a text, or a whole number as its text.

    >>> shop_id_of(b'" gid://shopify/Shop/7 "'), shop_id_of(b"7"), shop_id_of(b'" "')
    ('gid://shopify/Shop/7', '7', None)
    >>> shop_id_of(b"true"), shop_id_of(b"7.5"), shop_id_of(b"null")
    (None, None, None)
    """
    try:
        found = None if said is UNSET else _shop_id.decode(said)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    text = "" if found is None else str(found).strip()
    # No control characters, and no half of one: neither could stand in PostgreSQL.
    usable = text.isprintable() and REPLACEMENT not in text
    return text if usable and 1 <= len(text) <= SHOP_ID_CHARS_MAX else None


def installed_at_of(said: bytes | Raw | UnsetType) -> datetime | None:
    """When a shop was installed, of JSON, in UTC; text without a time zone is in UTC.

    >>> there = installed_at_of(b'"2026-01-01T02:00:00+02:00"')
    >>> there == installed_at_of(b'"2026-01-01T00:00:00"')
    True
    >>> installed_at_of(b'"yesterday"'), installed_at_of(b"1767225600")
    (None, None)
    """
    try:
        moment = None if said is UNSET else _installed_at.decode(said)
        if moment is None:
            return None
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (msgspec.DecodeError, UnicodeDecodeError, OverflowError):
        return None
