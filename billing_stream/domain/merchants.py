"""Rules of the billing record."""

from billing_stream.domain.commands import CreateMerchant
from billing_stream.domain.draft import Draft
from billing_stream.domain.outcomes import (
    Done,
    ErrorCode,
    Rejected,
    Reply,
    ShopRegistered,
)


def create(draft: Draft, command: CreateMerchant) -> Reply:
    """Create the billing record; a second time changes nothing but registers a changed domain."""
    merchant = draft.merchant
    domain = command.domain.lower()
    platform = command.platform.lower()
    if not draft.exists:
        draft.change(platform=platform, domain=domain, created_at=draft.now)
    elif (merchant.platform, merchant.domain) != (platform, domain):
        draft.change(platform=platform, domain=domain)
    else:
        return Done()
    draft.register_shop(ShopRegistered(platform, domain, merchant.merchant_id))
    return Done()


def unknown(draft: Draft) -> Rejected | None:
    """The refusal of a command for a merchant that was never created, else None."""
    if draft.exists:
        return None
    merchant_id = draft.merchant.merchant_id
    return Rejected(ErrorCode.MERCHANT_NOT_FOUND, f"no billing record of merchant {merchant_id}")
