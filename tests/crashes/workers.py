"""Real workers that end at a labelled point, and traffic that has every kind of command."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from billing_stream.domain.ids import derived_id
from billing_stream.engine.crash_points import EXIT_CRASHED, CrashPoint
from billing_stream.records import topics as names
from tests.support.audit import Audit
from tests.support.traffic import Traffic
from tests.support.worker import Worker

CRASH_SECONDS = 30
SETTLE_SECONDS = 60


class CrashingWorker(Worker):
    """A worker that can be started to end at a point."""

    def __init__(self, env: Mapping[str, str], folder: Path) -> None:
        super().__init__(env, folder)
        self._clean = dict(self.env)

    async def start_to_crash(self, point: CrashPoint, passes: int = 0) -> None:
        """Start; it ends when it has passed the point so often and comes to it again."""
        self.env = {**self._clean, "BILLING_CRASH_AT": f"{point}:{passes}"}
        await self.start()
        self.env = self._clean

    async def crashed(self) -> None:
        """Wait until it has ended where it should."""
        code = await asyncio.wait_for(self.process.wait(), CRASH_SECONDS)
        assert code == EXIT_CRASHED, f"exit {code}:\n{self.tail()}"


class Everything(Traffic):
    """Traffic with the kinds of commands that `Traffic` leaves out."""

    async def __aenter__(self) -> "Everything":
        await super().__aenter__()
        return self

    async def _merchant(self, purchases_each: int) -> None:
        await super()._merchant(purchases_each)
        merchant = list(self.expected.domains)[-1]
        reserve = {"command": "reserve_purchase", "pack": "small", "platform": "shopify"}
        ref = await (await self._created_first(merchant, reserve))
        purchase = derived_id("purchase", merchant, f"{ref.topic}[{ref.partition}]@{ref.offset}")
        fail = {"command": "fail_purchase", "purchase_id": purchase, "reason": "no checkout"}
        await self._created_first(merchant, fail)
        await self._created_first(merchant, {"command": "pass_time"})
        self.expected.status[purchase] = "failed"
        self.expected.owner[purchase] = merchant


async def until(check: Callable[[], Awaitable[None]], seconds: float = SETTLE_SECONDS) -> None:
    """Check until it holds; after so long, fail as it fails."""
    end = time.monotonic() + seconds
    while True:
        try:
            await check()
            return
        except AssertionError:
            if time.monotonic() > end:
                raise
        await asyncio.sleep(0.2)


async def check_all(audit: Audit, traffic: Traffic) -> None:
    """Everything that was sent has its effects, each exactly once, the timer's too."""
    expected = traffic.expected
    # First what is quickly read: the rest is looked at when there is nothing more to come.
    assert len(await audit.table(names.CREDIT_PURCHASES)) == len(expected.status)
    await audit.check(expected)
    expired = (await audit.events())["trial.expired"]
    found = Counter(event["data"]["merchant_id"] for event in expired)
    assert found == Counter(expected.trials)


async def check_lag(audit: Audit) -> None:
    """Nothing waits, as ordinary tools see it."""
    lag = await audit.lag()
    assert lag
    assert not any(lag.values()), lag
