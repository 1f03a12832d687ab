"""A loaded broker, a group in which a worker stays, one in which none does; and what is stopped."""

import asyncio
import contextlib
import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.stops.moments import Milestone, Plan, Service, Stop
from tests.support.projection import ProjectorProcess
from tests.support.traffic import Traffic
from tests.support.worker import Worker, create_topics, environment, worker

HUNG_SECONDS = 60.0
"""A process that has not ended by then is killed, and its code is that of SIGKILL."""
PARTITIONS = 4
MERCHANTS = 400
# A trickle for the whole time, beside what a worker finds when it starts.
MERCHANTS_AT_ONCE, PAUSE_SECONDS = 2, 0.4


@dataclass(frozen=True)
class Outcome:
    """How a process ended: its exit code, seconds from the signal to the end, its whole log."""

    seed: int
    stop: Stop
    code: int
    seconds: float
    log: str

    @property
    def problem(self) -> str:
        """What is wrong with that, or nothing."""
        # One that takes longer than docs/deploy.md allows ends itself, with 70.
        return f"ended with {self.code} after {self.seconds:.1f} s" if self.code else ""

    def __str__(self) -> str:
        return f"seed {self.seed} ({self.stop}): {self.problem or f'{self.seconds:.1f} s'}"


class Stage:
    """Runs plans on one broker. `stays` is the worker that the shared group keeps."""

    def __init__(self, kafka: str, database_url: str, prefix: str, folder: Path) -> None:
        self._kafka = kafka
        self._database_url = database_url
        self._folder = folder
        self._prefixes = {False: f"{prefix}alone.", True: f"{prefix}shared."}
        self._count = 0
        self.stays: Worker

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Stage"]:
        """Topics with merchants in them, load, the worker that stays; all ended afterwards."""
        async with AsyncExitStack() as stack:
            for prefix in self._prefixes.values():
                await create_topics(self._environment(prefix))
                traffic = Traffic(self._kafka, prefix, PARTITIONS, seed=1)
                await stack.enter_async_context(traffic)
                await traffic.merchants(MERCHANTS)
                await stack.enter_async_context(_loading(traffic))
            env = self._environment(self._prefixes[True])
            self.stays = await stack.enter_async_context(worker(env, self._new_folder()))
            yield self

    async def run(self, plan: Plan) -> list[Outcome]:
        """Stop all processes of the plan, at the same time."""
        return await asyncio.gather(*(self._stop(plan, stop) for stop in plan.stops))

    async def _stop(self, plan: Plan, stop: Stop) -> Outcome:
        env = self._environment(self._prefixes[plan.shared])
        if stop.named:
            env["BILLING_WORKER_NAME"] = f"seed-{plan.seed}"
        service = Worker if stop.service is Service.WORKER else ProjectorProcess
        process = service(env, self._new_folder())
        if stop.milestone is Milestone.LOADING:
            # With all its imports: processes of tests are forked from one that has them.
            process.command = [sys.executable, "-m", "billing_stream", stop.service]
        await process.start()
        try:
            await self._crash_hook(process, stop.milestone)
            await asyncio.sleep(stop.seconds)
            began = time.monotonic()
            process.signal(stop.signal)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.process.wait(), HUNG_SECONDS)
            seconds = time.monotonic() - began
        finally:
            await process.kill()
        return Outcome(plan.seed, stop, process.process.returncode or 0, seconds, process.text())

    async def _crash_hook(self, process: Worker, milestone: Milestone) -> None:
        if milestone is Milestone.LOADING:
            await _handling_signals(process.pid)
        elif milestone is Milestone.STARTING:
            await process.logged("starting worker of")
        elif milestone is Milestone.READY:
            await process.ready()

    def _environment(self, prefix: str, **extra: str) -> dict[str, str]:
        return environment(
            self._kafka,
            prefix,
            DATABASE_URL=self._database_url,
            BILLING_PROJECTION_SCHEMA=prefix.strip(".").replace(".", "_"),
            **extra,
        )

    def _new_folder(self) -> Path:
        self._count += 1
        folder = self._folder / str(self._count)
        folder.mkdir()
        return folder


async def _handling_signals(pid: int) -> None:
    """Wait until the process has a handler for SIGTERM: before, it is ended by Linux itself."""
    caught = 0
    while not caught >> (signal.SIGTERM - 1) & 1:
        status = Path(f"/proc/{pid}/status").read_text()
        caught = int(re.findall(r"^SigCgt:\s*(\w+)", status, re.M)[0], 16)
        await asyncio.sleep(0.001)


@asynccontextmanager
async def _loading(traffic: Traffic) -> AsyncIterator[None]:
    async def load() -> None:
        while True:
            await traffic.merchants(MERCHANTS_AT_ONCE)
            await asyncio.sleep(PAUSE_SECONDS)

    loading = asyncio.create_task(load())
    try:
        yield
    finally:
        loading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await loading
