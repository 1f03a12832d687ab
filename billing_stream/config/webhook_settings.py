"""How many webhooks a worker takes."""

from pydantic_settings import BaseSettings

from billing_stream.config.setting import setting


class WebhookSettings(BaseSettings):
    """The webhooks of a worker."""

    webhooks_per_minute: int = setting(
        "BILLING_WEBHOOKS_PER_MINUTE",
        "signed webhooks per platform, minute and worker; more get 429",
        6_000,
        ge=1,
        le=10_000_000,
    )
    accept_discounts: bool = setting(
        "BILLING_ACCEPT_DISCOUNTS",
        "whether a payment below the price buys the pack; if not, it is a dead letter",
        False,
    )
