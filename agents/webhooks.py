"""What the platforms tell of charges."""

from typing import Any

import faust

from agents.intake import register_intake
from billing_stream import topics as names
from billing_stream.engine.lanes import Lanes
from billing_stream.topics import Topics


def register(app: faust.App, lanes: Lanes, topics: Topics) -> list[Any]:
    """Start to read the webhook topics."""
    return [
        register_intake(app, lanes, topics.name(names.PURCHASE_UPDATED), "webhooks-updated"),
        register_intake(app, lanes, topics.name(names.PURCHASE_REFUNDED), "webhooks-refunded"),
    ]
