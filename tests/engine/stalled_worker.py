"""A worker whose consumer stops to fetch after so many fetches, and says nothing."""

import asyncio
import sys
from typing import Any

from billing_stream.config.settings import Settings
from billing_stream.faust_adapter import transport
from billing_stream.worker import run_worker

FETCHES = 4


def stall(after: int) -> None:
    """Have every consumer hang for ever at its fetch number `after`."""
    fetch = transport.EngineConsumer._fetched_records
    left = after

    async def fetched_records(self: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            await asyncio.sleep(3600)
        return await fetch(self)

    transport.EngineConsumer._fetched_records = fetched_records  # type: ignore[method-assign]


if __name__ == "__main__":
    stall(int(sys.argv[1]))
    run_worker(Settings.from_env())
