"""A worker that writes down, every few seconds, how many tasks its loop has.

Run as `python -m chaos.counted_worker`, with the environment of a worker: `/ready` does not
tell, and only the process itself knows.
"""

import asyncio
import os
from pathlib import Path

from billing_stream import worker
from billing_stream.app import BillingApp, build
from billing_stream.config.settings import Settings

OUTPUT = "CHAOS_TASKS"
EVERY_SECONDS = 5.0


def _count(loop: asyncio.AbstractEventLoop, output: Path) -> None:
    output.write_text(str(len(asyncio.all_tasks(loop))))
    loop.call_later(EVERY_SECONDS, _count, loop, output)


def _build_counted(settings: Settings) -> BillingApp:
    # The worker's loop is set by now, and runs later.
    loop = asyncio.get_event_loop_policy().get_event_loop()
    loop.call_later(EVERY_SECONDS, _count, loop, Path(os.environ[OUTPUT]))
    return build(settings)


if __name__ == "__main__":
    worker.build = _build_counted  # type: ignore[attr-defined]
    worker.run_worker(Settings.from_env())
