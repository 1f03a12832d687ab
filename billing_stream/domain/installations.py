"""Which installation of the app a record is about, and what a merchant without one may not begin.

Platforms report an uninstall late and more than once, so a report names when it happened. By then
the merchant may have installed the app again, and stays installed.
"""

from datetime import datetime

from billing_stream.domain.commands import ForgetMerchant, UninstallMerchant
from billing_stream.domain.draft import Draft
from billing_stream.domain.model import Merchant
from billing_stream.domain.outcomes import ErrorCode, Rejected


def shop_of(merchant: Merchant) -> str | None:
    """Its present shop, `platform:domain`; None where it has none, or was forgotten."""
    return f"{merchant.platform}:{merchant.domain}" if merchant.domain else None


def missing() -> Rejected:
    """The refusal of what only a merchant that has the app may begin."""
    message = "the app is uninstalled; repeat this when it is installed again"
    return Rejected(ErrorCode.MERCHANT_UNINSTALLED, message)


def is_return(draft: Draft, installed_at: datetime | None) -> bool:
    """Whether a merchant that uninstalled has installed the app again, in the same shop.

    Of an installation without a time that is taken for granted: one that cannot buy would be worse.
    """
    uninstalled_at = draft.merchant.uninstalled_at
    return uninstalled_at is not None and (installed_at is None or installed_at > uninstalled_at)


def is_about_another(draft: Draft, command: UninstallMerchant | ForgetMerchant) -> bool:
    """Whether it is about another shop than the present one, or an earlier installation of it.

    Where no record stated when the app was installed, it is when the billing record was created.
    """
    merchant, at = draft.merchant, command.triggered_at
    if command.shop not in (None, shop_of(merchant)):
        return True
    installed_at = merchant.installed_at or merchant.created_at
    return at is not None and installed_at is not None and installed_at > at
