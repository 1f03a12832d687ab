"""Whose shop a domain is, told by the lanes to each other."""

from typing import Any

import faust

from agents.intake import register_intake
from billing_stream import topics as names
from billing_stream.engine.lanes import Lanes
from billing_stream.topics import Topics


def register(app: faust.App, lanes: Lanes, topics: Topics) -> list[Any]:
    """Start to read `billing.shops.v1`."""
    return [
        register_intake(app, lanes, topics.name(names.SHOPS), "shops"),
    ]
