"""Which webhooks a platform is set up to send."""

from collections.abc import Iterable

from msgspec import Struct

from billing_stream.platforms.shopify import Shopify
from billing_stream.platforms.stripe import Stripe
from billing_stream.platforms.stripe_webhooks import EVENTS_READ

# How many endpoints of an account are read: Stripe allows 16.
ENDPOINTS_MAX = 100
_EVERY = "*"
_PATH = "/webhooks/stripe"


class Endpoint(Struct, frozen=True):
    """A webhook endpoint of a Stripe account."""

    url: str
    status: str
    enabled_events: list[str]

    @property
    def is_ours(self) -> bool:
        """Whether it is enabled, and leads to a worker."""
        return self.status == "enabled" and self.url.rstrip("/").endswith(_PATH)


class _Endpoints(Struct):
    data: list[Endpoint]


async def stripe_endpoints(stripe: Stripe) -> list[Endpoint]:
    """All of the account. Raises PlatformError."""
    return (await stripe.get(f"webhook_endpoints?limit={ENDPOINTS_MAX}", _Endpoints)).data


def missing_events(endpoints: Iterable[Endpoint]) -> list[str]:
    """Types of events that these endpoints do not receive, and that this service reads."""
    enabled = {name for endpoint in endpoints for name in endpoint.enabled_events}
    return [] if _EVERY in enabled else sorted(EVENTS_READ - enabled)


async def shopify_subscribed(shopify: Shopify, shop: str, topic: str) -> bool:
    """Whether the app subscribed to a topic in a shop, by the API. Raises PlatformError.

    Shopify does not list the subscriptions of `shopify.app.toml` there.
    """
    return bool(await shopify.subscriptions(shop, topic.upper().replace("/", "_")))
