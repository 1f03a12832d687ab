"""Rules of the billing record."""

from collections.abc import Collection

from msgspec.structs import replace

from billing_stream.domain import shops
from billing_stream.domain.commands import CreateMerchant, ForgetMerchant, SetShop
from billing_stream.domain.draft import Draft
from billing_stream.domain.ids import shop_key
from billing_stream.domain.installations import is_about_another, is_return
from billing_stream.domain.outcomes import (
    Done,
    ErrorCode,
    MerchantForgotten,
    Rejected,
    Reply,
    ShopRegistered,
    ShopSet,
    Superseded,
)
from billing_stream.domain.shop_names import shop_names


def create(draft: Draft, command: CreateMerchant) -> Reply:
    """Create the billing record; a second time changes nothing but registers a changed shop.

    An older installation than one that is known changes nothing. A merchant that was forgotten is
    as it was, its trial used, with the domain it has now. Without a platform's and a host's name a
    new merchant has no shop, a known one keeps its own.
    """
    merchant = draft.merchant
    shop = named_shop(draft, command.platform, command.domain)
    if isinstance(shop, Rejected):
        if not draft.exists:
            draft.change(created_at=draft.now)
        return shop
    platform, domain = shop
    shop_id, installed_at = command.platform_shop_id, command.installed_at
    if draft.policy.rules == 1:
        shop_id = installed_at = None
    installed_at = shops.credible(installed_at, draft.now)
    if shops.is_older(merchant, installed_at):
        return Superseded()
    same = draft.exists and shop == (merchant.platform, merchant.domain)
    known = merchant.installed_at
    said = {
        "platform_shop_id": shop_id or (merchant.platform_shop_id if same else None),
        "installed_at": shops.newest(known, installed_at),
    }
    returns = is_return(draft, installed_at)
    if same and not returns and said == {name: getattr(merchant, name) for name in said}:
        return Done()
    if not draft.exists:
        draft.change(created_at=draft.now)
    elif not same:
        _keep_former_shop(draft, f"{platform}:{domain}")
    uninstalled_at = merchant.uninstalled_at if same and not returns else None
    back = {"forgotten_at": None, "uninstalled_at": uninstalled_at}
    draft.change(platform=platform, domain=domain, **back, **said)
    # That it is the same installation and only known better must not take the shop from another.
    again = same and not returns and (known is None or said["installed_at"] == known)
    claim = ShopRegistered(platform, domain, merchant.merchant_id, again=again)
    claim = replace(claim, uninstalled=uninstalled_at is not None)
    draft.register_shop(replace(claim, platform_shop_id=shop_id, installed_at=installed_at))
    return Done()


def set_shop(draft: Draft, command: SetShop) -> Reply:
    """Register the shop that an operator names, again where the merchant has it already."""
    merchant = draft.merchant
    shop = named_shop(draft, command.platform, command.domain)
    if isinstance(shop, Rejected):
        return shop
    platform, domain = shop
    if (merchant.platform, merchant.domain) != shop:
        _keep_former_shop(draft, shop_key(platform, domain))
        draft.change(platform=platform, domain=domain, platform_shop_id=None)
    if merchant.uninstalled_at is not None:
        draft.change(uninstalled_at=None)
    draft.register_shop(ShopRegistered(platform, domain, merchant.merchant_id))
    return ShopSet(platform, domain)


def named_shop(draft: Draft, platform: str, domain: str) -> tuple[str, str] | Rejected:
    """Platform and domain, each in its one form; or why they do not name a shop."""
    if draft.policy.rules == 1:
        return platform.lower(), domain.lower()
    try:
        return shop_names(platform, domain)
    except ValueError as error:
        return Rejected(ErrorCode.INVALID_SHOP, str(error))


def forget(draft: Draft, command: ForgetMerchant) -> Reply:
    """Remove personal data: domain, shops, checkout pages, refusals of platforms, answers.

    Credits, amounts, charges and events stay, so payments and refunds still find their purchase.
    To one that is forgotten already nothing more happens: nothing personal is taken in since.
    Of a shop that it had before, only that shop goes: it has another one now.
    """
    merchant, shop = draft.merchant, command.shop
    if merchant.forgotten_at is not None:
        return Done()
    if shop is not None and shop in merchant.former_shops:
        _unregister(draft, shop)
        draft.change(former_shops=tuple(one for one in merchant.former_shops if one != shop))
        return Done()
    if is_about_another(draft, command):
        return Superseded()
    for shop in shops.shops_of(merchant):
        _unregister(draft, shop)
    for purchase in draft.rows.purchases_of(merchant.merchant_id):
        purchase = draft.purchase(purchase.id) or purchase
        reason = None if purchase.no_checkout is None else "forgotten"
        if (purchase.checkout_url, purchase.no_checkout) != (None, reason):
            draft.put(replace(purchase, checkout_url=None, no_checkout=reason))
    for answer in draft.rows.answers(merchant.merchant_id):
        draft.forget(answer.key)
    draft.change(domain="", platform_shop_id=None, former_shops=(), forgotten_at=draft.now)
    # A merchant may come back and be forgotten again: each time is an event of its own.
    subject = f"{merchant.merchant_id}/{merchant.sequence}"
    draft.publish(subject, MerchantForgotten(merchant.merchant_id))
    return Done()


def _unregister(draft: Draft, shop: str, kept: Collection[str] = ()) -> None:
    """Give up a shop; one that was registered as it came, by its name of now, too."""
    for key in dict.fromkeys((shop, shops.name_of(shop))):
        if key not in kept:
            platform, _, domain = key.partition(":")
            merchant_id = draft.merchant.merchant_id
            draft.register_shop(ShopRegistered(platform, domain, merchant_id, gone=True))


def _keep_former_shop(draft: Draft, new: str) -> None:
    """Its clients may continue to use the shop it had; of very many, the oldest goes."""
    former = tuple(dict.fromkeys(one for one in shops.shops_of(draft.merchant) if one != new))
    excess = max(0, len(former) - draft.policy.former_shops_max)
    kept = {shops.name_of(shop) for shop in (new, *former[excess:])} if excess else ()
    for shop in former[:excess]:
        _unregister(draft, shop, kept)
    draft.change(former_shops=former[excess:])
