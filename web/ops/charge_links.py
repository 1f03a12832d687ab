"""Where a charge is seen at its platform, for staff."""

from urllib.parse import quote

from billing_stream.domain.model import Platform

_STRIPE = "https://dashboard.stripe.com"


def charge_link(platform: str, charge_id: str | None, test: bool) -> str | None:
    """The page of a charge at its platform; None where there is no such page.

    Shopify shows charges of an app to the shop, and in the Partner Dashboard of the app's owner:
    the addresses there do not follow from the charge. A custom platform has no known page.

    >>> charge_link("stripe", "cs_test_1", False)
    'https://dashboard.stripe.com/test/checkout/sessions/cs_test_1'
    >>> charge_link("stripe", "pi_1", False), charge_link("shopify", "gid://shopify/1", False)
    ('https://dashboard.stripe.com/payments/pi_1', None)
    """
    if platform != Platform.STRIPE or charge_id is None:
        return None
    in_test = "/test" if test or charge_id.startswith("cs_test_") else ""
    if charge_id.startswith("cs_"):
        return f"{_STRIPE}{in_test}/checkout/sessions/{quote(charge_id, safe='')}"
    if charge_id.startswith(("pi_", "ch_", "py_")):
        return f"{_STRIPE}{in_test}/payments/{quote(charge_id, safe='')}"
    return None
