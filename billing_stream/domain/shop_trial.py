"""What a merchant's row says of the trial of its shop, which the owner of the shop gives once."""

from enum import StrEnum

from msgspec import Struct

from billing_stream.domain.ids import fingerprint
from billing_stream.domain.policy import OncePer


class ShopTrial(Struct, frozen=True, omit_defaults=True, gc=False):
    """The claim of a merchant to the trial of its `shop`, which is a key of `shop_trial_key`.

    `granted` is the answer of the shop's owner; None: it has not come, or was not asked for.
    `asked_by` is the id of the command that asked, and `idempotency_key` its key until the answer
    is there.
    """

    shop: str
    granted: bool | None = None
    asked_by: str = ""
    idempotency_key: str | None = None


class ClaimCause(StrEnum):
    """Why a merchant claims the trial of its shop.

    `asked`: it may start only when the owner grants it. `started`: it started without asking.
    `found`: it was used before its shop was known here.
    """

    ASKED = "asked"
    STARTED = "started"
    FOUND = "found"


class TrialClaimed(Struct, frozen=True, gc=False, tag="trial_claimed", tag_field="record"):
    """A merchant claims the trial of its shop: the first claim of a shop counts, permanently.

    `shop` is the platform and a digest of its own id of the shop. `once_per` is the setting
    TRIAL_ONCE_PER by which the claim was made.
    """

    shop: str
    merchant_id: str
    why: ClaimCause
    once_per: OncePer


def shop_trial_key(platform: str, platform_shop_id: str) -> str:
    """The key of a shop's trial: platform:#digest of the id, which outlives a forgotten merchant.

    >>> shop_trial_key("shopify", "gid://shopify/Shop/7") == shop_trial_key("shopify", "7")
    True
    >>> shop_trial_key("shopify", "7")
    'shopify:#7902699be42c8a8e46fbbb4501726517'
    """
    # Shopify's id has two forms.
    number = platform_shop_id.removeprefix("gid://shopify/Shop/")
    return f"{platform.lower()}:#{fingerprint(number)}"
