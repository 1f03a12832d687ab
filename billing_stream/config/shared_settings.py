"""Settings that all workers of a group must have in common, in a form that they can exchange."""

from collections.abc import Mapping
from hashlib import sha256

import msgspec

from billing_stream.config.catalogue_settings import CATALOGUE
from billing_stream.config.settings import Settings

# By these, workers decide what happens to a merchant, and where. No secret is among them.
SHARED = frozenset(
    {
        "accept_discounts",
        "app_env",
        "app_id",
        "currency",
        "currency_of_old_rows",
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
        "stripe_adaptive_pricing",
        "topic_prefix",
        "trial_credits",
        "trial_duration",
        "trial_once_per",
        "trial_reminder",
    }
)
# Compared by the packs that they make, whatever file they are in; durations, as they are read.
OF_CATALOGUE = frozenset(
    {
        "catalogue",
        "large_pack_credits",
        "large_pack_price",
        "medium_pack_credits",
        "medium_pack_price",
        "pending_purchase_expiry_hours",
        "small_pack_credits",
        "small_pack_price",
        "trial_duration_days",
    }
)
_DIGITS = 12


def shared_settings(settings: Settings) -> dict[str, str]:
    """By the variable of each: the first digits of the hash of its value."""
    found = {
        str(field.validation_alias): _hash(getattr(settings, name))
        for name, field in sorted(type(settings).model_fields.items())
        if name in SHARED
    }
    return {**found, CATALOGUE: _hash(msgspec.json.encode(settings.packs, order="sorted"))}


def differing(own: Mapping[str, str], others: Mapping[str, str]) -> list[str]:
    """The variables with other values; one that a release does not have yet does not differ."""
    return [name for name in own if others.get(name, own[name]) != own[name]]


def _hash(value: object) -> str:
    return sha256(repr(value).encode()).hexdigest()[:_DIGITS]
