"""The rows of shops among those of a partition."""

from collections.abc import Mapping

from billing_stream.domain.shops import NOBODYS, Shop


def put_shops(rows: dict[str, Shop], changed: Mapping[str, Shop | None]) -> None:
    """Lay in rows by their key `platform:domain`; None takes one out."""
    for key, shop in changed.items():
        if shop is None:
            rows.pop(key, None)
        else:
            rows[key] = shop


def merchant_of(rows: Mapping[str, Shop], key: str) -> str | None:
    """The merchant id of the owner of the shop `platform:domain`, or None."""
    return rows.get(key, NOBODYS).merchant_id
