"""Rules of a merchant that uninstalled the app."""

from datetime import UTC, datetime

from msgspec.structs import replace

from billing_stream.domain.commands import UninstallMerchant
from billing_stream.domain.draft import Draft
from billing_stream.domain.installations import is_about_another, shop_of
from billing_stream.domain.model import PurchaseStatus
from billing_stream.domain.outcomes import (
    Done,
    MerchantUninstalled,
    Reply,
    ShopRegistered,
    Superseded,
)
from billing_stream.domain.purchases import expire
from billing_stream.domain.shops import newest, shops_of

REASON = "uninstalled"
_ALWAYS = datetime.max.replace(tzinfo=UTC)


def uninstall(draft: Draft, command: UninstallMerchant) -> Reply:
    """Expire open purchases, and let another merchant have the shops; once per installation.

    Credits and the trial stay. A payment that comes later is honoured.
    """
    merchant = draft.merchant
    if is_about_another(draft, command):
        return Superseded()
    if merchant.uninstalled_at is not None:
        return Done()
    for waiting in draft.rows.pending_until(merchant.merchant_id, _ALWAYS):
        purchase = draft.purchase(waiting.id) or waiting
        if purchase.status is PurchaseStatus.PENDING:
            expire(draft, purchase, REASON)
    for shop in shops_of(merchant):
        platform, _, domain = shop.partition(":")
        claim = ShopRegistered(platform, domain, merchant.merchant_id, uninstalled=True)
        if shop == shop_of(merchant):
            said = merchant.platform_shop_id, merchant.installed_at
            claim = replace(claim, platform_shop_id=said[0], installed_at=said[1])
        draft.register_shop(claim)
    at = min(command.triggered_at or draft.now, draft.now)
    draft.change(uninstalled_at=newest(merchant.installed_at, at))
    # A merchant may come back and uninstall again: each time is an event of its own.
    subject = f"{merchant.merchant_id}/{merchant.sequence}"
    draft.publish(subject, MerchantUninstalled(merchant.merchant_id))
    return Done()
