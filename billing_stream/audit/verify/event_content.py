"""What an event says, by its kind."""

from decimal import Decimal
from typing import Any

from billing_stream.audit.verify.log_records import micros
from billing_stream.audit.verify.model_state import EventContent


def content_of(kind: str, data: dict[str, Any]) -> EventContent:
    """The content of an event's `data`. Raises KeyError, TypeError or ValueError."""
    if kind == "trial.started":
        return kind, "", data["credits"], None, micros(data["ends_at"])
    if kind == "trial.ending":
        return kind, "", 0, None, micros(data["ends_at"])
    if kind == "trial.expired":
        return kind, "", 0, None, micros(data["expired_at"])
    if kind == "trial.extended":
        content = (micros(data["ends_at"]), data.get("merchant_note"))
        return kind, data["extension_id"], 0, None, content
    if kind == "credits.adjusted":
        texts = (data["reason"], data.get("merchant_note"))
        return kind, data["adjustment_id"], data["credits"], None, texts
    if kind in ("merchant.forgotten", "merchant.uninstalled"):
        return kind, "", 0, None, ""
    if kind == "trial.imported":
        times = (data["started_at"], data["ends_at"])
        return kind, "", 0, None, tuple(None if at is None else micros(at) for at in times)
    purchase = data["purchase_id"]
    if kind == "purchase.failed":
        return kind, purchase, 0, None, data["reason"].lower()
    if kind == "purchase.expired":
        return kind, purchase, 0, None, data["reason"]
    if kind == "purchase.refund_failed":
        return kind, purchase, data["credits"], None, ""
    if kind in ("purchase.disputed", "purchase.dispute_closed"):
        return kind, purchase, data["credits"], None, (data["dispute_id"], data["outcome"])
    amount = data["amount"]
    if not isinstance(amount, str):
        raise TypeError("the amount is not a text")
    platform = "" if kind == "purchase.refunded" else data["platform"]
    return kind, purchase, data["credits"], Decimal(amount), platform
