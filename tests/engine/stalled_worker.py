"""A worker whose consumer stops to fetch after so many fetches, and says nothing."""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

from billing_stream.config.settings import Settings
from billing_stream.faust_adapter import transport
from billing_stream.worker import run_worker

FETCHES = 4


def stall(after: int) -> None:
    """Have every consumer hang for ever at its fetch number `after`."""
    fetch = transport.EngineConsumer.getmany
    left = after

    async def getmany(self: Any, timeout: float) -> AsyncIterator[Any]:
        nonlocal left
        left -= 1
        if left < 0:
            await asyncio.sleep(3600)
        async for found in fetch(self, timeout):
            yield found

    transport.EngineConsumer.getmany = getmany  # type: ignore[method-assign]


if __name__ == "__main__":
    stall(int(sys.argv[1]))
    run_worker(Settings.from_env())
