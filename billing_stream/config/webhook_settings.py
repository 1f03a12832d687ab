"""How many webhooks a worker takes."""

from pydantic import Field
from pydantic_settings import BaseSettings


class WebhookSettings(BaseSettings):
    """The webhooks of a worker."""

    webhooks_per_minute: int = Field(
        validation_alias="BILLING_WEBHOOKS_PER_MINUTE",
        description="signed webhooks of one platform to this worker per minute; above that 429 "
        "with Retry-After, and the platform repeats them",
        default=6_000,
        ge=1,
        le=10_000_000,
    )
