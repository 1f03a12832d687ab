"""When to fetch: one fetch brings all that the next transaction can have."""

import asyncio
from typing import Any

from billing_stream.engine.lanes import Lanes

# Before a transaction may begin: a fetch of what is there takes one or two milliseconds.
FETCH_SECONDS = 0.003


def seconds_to_fetch(lanes: Lanes[Any]) -> float:
    """How long records need not be fetched, since no transaction could have them before."""
    now = asyncio.get_running_loop().time()
    seconds = lanes.scheduler.next_begin - FETCH_SECONDS - now
    if seconds <= 0 and any(lane.records_waiting for lane in lanes.values()):
        # The next transaction has its records; these are for the one after it.
        seconds += lanes.scheduler.interval
    return max(0.0, seconds)
