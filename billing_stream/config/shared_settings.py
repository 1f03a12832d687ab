"""Settings that all workers of a group must have in common, in a form that they can exchange."""

from collections.abc import Mapping
from hashlib import sha256

from billing_stream.config.settings import Settings

# By these, workers decide what happens to a merchant, and where. No secret is among them.
SHARED = frozenset(
    {
        "app_env",
        "app_id",
        "currency",
        "custom_gateway_url",
        "early_webhook_expiry",
        "early_webhooks_max",
        "expired_per_step",
        "max_record_bytes",
        "open_purchases_max",
        "partitions",
        "pending_purchase_expiry",
        "poison_in_a_row",
        "poison_percent",
        "shopify_api_version",
        "stored_responses_max",
        "topic_prefix",
        "trial_duration",
    }
)
_DIGITS = 12


def shared_settings(settings: Settings) -> dict[str, str]:
    """By the variable of each: the first digits of the hash of its value."""
    return {
        str(field.validation_alias): _hash(getattr(settings, name))
        for name, field in sorted(type(settings).model_fields.items())
        if name in SHARED
    }


def differing(own: Mapping[str, str], others: Mapping[str, str]) -> list[str]:
    """The variables with other values; one that a release does not have yet does not differ."""
    return [name for name in own if others.get(name, own[name]) != own[name]]


def _hash(value: object) -> str:
    return sha256(repr(value).encode()).hexdigest()[:_DIGITS]
