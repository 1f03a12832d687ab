"""The prices that the payment platforms of this environment can charge."""

from collections.abc import Iterator, Mapping
from typing import Any

from billing_stream.config.catalogue_file import CatalogueError, packs_of
from billing_stream.config.settings import Settings
from billing_stream.domain.policy import Pack
from billing_stream.errors import PlatformError
from billing_stream.platforms.money import to_minor


def sellable_packs(settings: Settings, tables: Mapping[str, Any]) -> dict[str, Pack]:
    """As `packs_of`, in the currency of the settings. Raises CatalogueError.

    Also where a price is one that a platform cannot charge.
    """
    packs = packs_of(tables, settings.currency)
    problems = list(price_problems(settings, packs))
    if problems:
        raise CatalogueError("\n".join(problems))
    return packs


def price_problems(settings: Settings, packs: Mapping[str, Pack]) -> Iterator[str]:
    """Each price that a platform which is set up cannot charge, and why."""
    key = settings.stripe_api_key
    if key is None or not key.get_secret_value().strip():
        return
    for name, pack in packs.items():
        for currency, amount in pack.prices.items():
            try:
                to_minor(amount, currency)
            except PlatformError as error:
                yield f"the price of pack {name} in {currency}, {amount}: {error} by Stripe"
