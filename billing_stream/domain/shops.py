"""Rules of a shop: which merchant has it, and which claims of other merchants count.

A shop is known by its platform and domain. The platform's own id of it separates an installation by
a new merchant from a second shop that claims the domain of the first.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from billing_stream.domain.model import Instant, Merchant
from billing_stream.domain.outcomes import ShopRegistered
from billing_stream.domain.shop_names import shop_names

# The clock of a producer may be ahead of the broker's.
AHEAD_MAX = timedelta(days=1)


class Shop(Struct, frozen=True, omit_defaults=True, gc=False):
    """A row of `shops`: one per platform and domain.

    `installed_at` is when the newest installation that is known was made, `uninstalled` whether its
    merchant has uninstalled, so that another one may have it. `merchant_id` is missing for a shop
    that was erased: then the row has a key without the domain.
    """

    merchant_id: str | None = None
    platform_shop_id: str | None = None
    installed_at: Instant | None = None
    uninstalled: bool = False


NOBODYS = Shop()
"""The row of a shop that was never claimed."""


class Claim(StrEnum):
    """What became of an installation that is not simply the next one of its merchant.

    `taken`: another shop has the domain. `reinstalled`: another merchant has the shop now, as the
    platform's id is the same, or the former merchant had uninstalled. `replaced_without_id`: it has
    the shop now, and one of the two had no id to compare. `older`: a newer one is known.
    """

    TAKEN = "taken"
    REINSTALLED = "reinstalled"
    REPLACED = "replaced_without_id"
    OLDER = "older"


def credible(installed_at: datetime | None, now: datetime) -> datetime | None:
    """The time of an installation; None where it is still to come, and so is unknown.

    Otherwise a wrong clock would keep every later installation out.
    """
    return None if installed_at is None or installed_at > now + AHEAD_MAX else installed_at


def is_older(merchant: Merchant, installed_at: datetime | None) -> bool:
    """Whether a newer installation of the merchant is known, or this one was erased with it."""
    if installed_at is None:
        return False
    if merchant.forgotten_at is not None:
        return installed_at <= (merchant.installed_at or merchant.forgotten_at)
    return merchant.installed_at is not None and installed_at < merchant.installed_at


def newest(*known: datetime | None) -> datetime | None:
    """The latest of the times that are known."""
    return max((moment for moment in known if moment is not None), default=None)


def claim(shop: Shop, said: ShopRegistered) -> tuple[Shop, Claim | None]:
    """The shop after a merchant's claim, or after it left; the outcome where that is remarkable."""
    installed_at = newest(shop.installed_at, said.installed_at)
    shop_id = said.platform_shop_id
    if said.if_free and shop.merchant_id is not None:
        return shop, None
    if said.merchant_id == shop.merchant_id:
        # Its own lane wrote them in the order of its installations.
        if said.gone:
            return Shop(installed_at=installed_at), None
        if said.again:
            known = shop.platform_shop_id or shop_id
            return replace(shop, platform_shop_id=known, installed_at=installed_at), None
        known = shop_id or shop.platform_shop_id
        return Shop(said.merchant_id, known, installed_at, said.uninstalled), None
    if said.gone or said.again or said.uninstalled:
        return shop, None
    if said.installed_at is not None and said.installed_at != installed_at:
        return shop, Claim.OLDER
    taken_over = Shop(said.merchant_id, shop_id, installed_at)
    if shop.merchant_id is None:
        return taken_over, None
    if shop.uninstalled or (shop_id is not None and shop_id == shop.platform_shop_id):
        return taken_over, Claim.REINSTALLED
    if shop_id is None or shop.platform_shop_id is None:
        return taken_over, Claim.REPLACED
    return shop, Claim.TAKEN


def renamed(merchant: Merchant) -> Iterator[ShopRegistered]:
    """Claims of the shops that the merchant's row names as they came, by their names of now.

    Releases up to 0.5.1 registered them so, and no client could ask for them.
    """
    for key in shops_of(merchant):
        name = name_of(key)
        if name != key:
            platform, _, domain = name.partition(":")
            yield ShopRegistered(platform, domain, merchant.merchant_id, if_free=True)


def shops_of(merchant: Merchant) -> tuple[str, ...]:
    """The keys `platform:domain` of all shops of a merchant, the present one last."""
    if not merchant.domain:
        return merchant.former_shops
    return (*merchant.former_shops, f"{merchant.platform}:{merchant.domain}")


def name_of(key: str) -> str:
    """The key by the names of now; itself where it names no shop."""
    platform, _, domain = key.partition(":")
    try:
        return ":".join(shop_names(platform, domain))
    except ValueError:
        return key


def state_again(shop: Shop, said: ShopRegistered) -> ShopRegistered | None:
    """The record to be written after a claim, so that the last record of the shop is its row.

    None where the claim is that. Records before the last one are removed by compaction.
    """
    if shop.merchant_id is None:
        gone = ShopRegistered(said.platform, said.domain, said.merchant_id, gone=True)
        return None if said.gone else gone
    present = ShopRegistered(
        said.platform,
        said.domain,
        shop.merchant_id,
        platform_shop_id=shop.platform_shop_id,
        installed_at=shop.installed_at,
        uninstalled=shop.uninstalled,
        again=True,
    )
    return None if replace(said, again=True) == present else present
