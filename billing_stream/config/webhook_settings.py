"""How many webhooks a worker takes."""

from pydantic_settings import BaseSettings

from billing_stream.config.setting import setting


class WebhookSettings(BaseSettings):
    """The webhooks of a worker."""

    webhooks_per_minute: int = setting(
        "BILLING_WEBHOOKS_PER_MINUTE",
        "signed webhooks of one platform to this worker per minute; above that 429 with "
        "Retry-After, and the platform repeats them",
        6_000,
        ge=1,
        le=10_000_000,
    )
    accept_discounts: bool = setting(
        "BILLING_ACCEPT_DISCOUNTS",
        "take a payment of less than the price, in its currency, for a discount, and grant the "
        "pack; otherwise such a payment is a dead letter",
        False,
    )
