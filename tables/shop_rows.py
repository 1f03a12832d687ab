"""The rows of shops among those of a partition."""

from collections.abc import Mapping

from billing_stream.domain.shops import Shop


def put_shops(rows: dict[str, Shop], changed: Mapping[str, Shop | None]) -> None:
    """Lay in rows by their key `platform:domain`; None takes one out."""
    for key, shop in changed.items():
        if shop is None:
            rows.pop(key, None)
        else:
            rows[key] = shop
