"""Runs the work of a command, so that stopping it cleans up and is not taken for a finding."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

import click

Result = TypeVar("Result")


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """The result of the work; 130 after SIGINT and 143 after SIGTERM, as a shell would say."""
    try:
        return asyncio.run(_until_stopped(work))
    except KeyboardInterrupt:
        raise click.exceptions.Exit(128 + signal.SIGINT) from None
    except asyncio.CancelledError:
        raise click.exceptions.Exit(128 + signal.SIGTERM) from None


async def _until_stopped(work: Coroutine[Any, Any, Result]) -> Result:
    task = asyncio.ensure_future(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task
