"""Wakes the lanes in which something fell due."""

import asyncio
import logging
from typing import Any

from billing_stream.engine.lanes import Lanes

logger = logging.getLogger(__name__)

TICK_SECONDS = 0.25


async def run_timers(lanes: Lanes[Any]) -> None:
    """Look at the first deadline of each owned partition, four times a second, without end."""
    while True:
        await asyncio.sleep(TICK_SECONDS)
        if lanes.ready:
            for lane in lanes.values():
                lane.wake_if_due()
