"""Runs a coroutine to its end from anywhere, also from where an event loop already runs."""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def run_apart(work: Coroutine[Any, Any, None], seconds_max: float) -> None:
    """Run `work` on a loop of its own, in a thread of its own. Raises TimeoutError."""

    async def limited() -> None:
        await asyncio.wait_for(work, seconds_max)

    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, limited()).result()
