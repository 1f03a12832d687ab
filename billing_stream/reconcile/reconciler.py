"""The look-ups of a worker: of the unpaid purchases of its partitions, outside their lanes.

A scan goes over the pending purchases again and again and queues each look-up that is due by
`schedule`; some tasks look them up, and write what a platform says to the topics of webhooks. The
lanes decide it there as they decide a webhook, so nothing counts twice. Nothing here is stored: a
new owner of a partition starts with the purchases that were due lately.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple, TypeVar

from billing_stream.domain.model import Platform, Purchase, PurchaseStatus
from billing_stream.engine.lanes import Lanes
from billing_stream.errors import InvalidRecord, PlatformError, TemporaryFailure
from billing_stream.observability.metrics.worker_metrics import WorkerMetrics
from billing_stream.platforms import base
from billing_stream.platforms.platform_http import CredentialsRefused, TryLater
from billing_stream.processor import BillingProcessor
from billing_stream.reconcile.charges import CREDITED, is_of, limit_of, query_of, record_of
from billing_stream.reconcile.schedule import next_lookup
from billing_stream.tables.rows import PartitionRows
from billing_stream.web.envelope import ApiError
from billing_stream.web.ingress import Ingress

T = TypeVar("T")

logger = logging.getLogger(__name__)

QUEUED_MAX = 1_000
# Purchases between two turns of the event loop.
PURCHASES_PER_TURN = 200
# Of what was reported to the lanes, and of purchases that expired after their look-up.
REMEMBERED_MAX = 10_000
TICK_MAX = timedelta(seconds=10)
# A platform that fails without saying when to ask again.
PAUSE = timedelta(minutes=1)
PAUSE_MAX = timedelta(hours=1)
# The same answer is written again after this: by then it is clear that it did not count.
AGAIN = timedelta(hours=1)


class Due(NamedTuple):
    """A purchase to be looked up."""

    partition: int
    purchase_id: str


class Reported(NamedTuple):
    """What was written to the lanes about a purchase."""

    partition: int
    status: str
    paid: bool
    at: datetime


class Reconciler:
    """Looks up what the platforms know of unpaid purchases; `run` ends with its task only."""

    def __init__(
        self,
        lanes: Lanes[BillingProcessor],
        platforms: Mapping[Platform, base.Platform],
        ingress: Ingress,
        metrics: WorkerMetrics,
        *,
        every: timedelta,
        concurrency: int,
        max_record_bytes: int,
    ) -> None:
        self._lanes = lanes
        self._platforms = platforms
        self._ingress = ingress
        self._metrics = metrics
        self._every = every
        self._concurrency = concurrency
        self._max_record_bytes = max_record_bytes
        self._queue: asyncio.Queue[Due] = asyncio.Queue(QUEUED_MAX)
        self._under_way: set[Due] = set()
        # By partition, until when all due look-ups were queued.
        self._scanned: dict[int, datetime] = {}
        self._reported: OrderedDict[str, Reported] = OrderedDict()
        self._expiring: OrderedDict[str, int] = OrderedDict()
        # By shop or account, until when its platform is not asked.
        self._paused: OrderedDict[str, datetime] = OrderedDict()
        metrics.paid_not_credited.set_function(self.paid_not_credited)
        metrics.lookup_lag.set_function(self.lag_seconds)

    async def run(self) -> None:
        """Scan and look up, for as long as the worker runs."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._concurrency):
                group.create_task(self._look_up_queued(), name=f"lookup-{number}")
            while True:
                await asyncio.sleep(min(self._every / 20, TICK_MAX).total_seconds())
                try:
                    await self.scan()
                except Exception:
                    # Billing continues without look-ups, and the next scan tries again.
                    logger.exception("unpaid purchases cannot be looked through")

    async def scan(self) -> None:
        """Queue every look-up that fell due since the scan before; waits while many are queued."""
        self._forget_settled()
        for partition in list(self._lanes) if self._lanes.ready else ():
            lane = self._lanes.get(partition)
            if lane is None:
                continue
            now = self._lanes.clock()
            since = self._scanned.get(partition, now - self._every)
            for number, purchase in enumerate(self._unpaid(partition, lane.processor.rows)):
                due_at = next_lookup(purchase.created_at, purchase.expires_at, self._every, since)
                if due_at is not None and due_at <= now:
                    await self._put(Due(partition, purchase.id))
                if number % PURCHASES_PER_TURN == 0:
                    await asyncio.sleep(0)
            self._scanned[partition] = now

    async def idle(self) -> None:
        """Wait until all that is queued was looked up."""
        await self._queue.join()

    def paid_not_credited(self) -> int:
        """Purchases that were paid, and which the lanes have not credited."""
        self._forget_settled()
        return sum(reported.paid for reported in self._reported.values())

    def lag_seconds(self) -> float:
        """How late look-ups are queued: they wait for others when platforms are slow."""
        if not self._lanes.ready or not self._scanned:
            return 0.0
        now = self._lanes.clock()
        owned = [at for partition, at in self._scanned.items() if partition in self._lanes]
        return max(((now - at).total_seconds() for at in owned), default=0.0)

    def _unpaid(self, partition: int, rows: PartitionRows) -> Iterator[Purchase]:
        yield from rows.every_pending()
        for purchase_id, of in list(self._expiring.items()):
            purchase = rows.purchase(purchase_id) if of == partition else None
            if purchase is not None and purchase.status is not PurchaseStatus.PENDING:
                yield purchase

    async def _put(self, due: Due) -> None:
        if due not in self._under_way:
            self._under_way.add(due)
            await self._queue.put(due)

    async def _look_up_queued(self) -> None:
        while True:
            due = await self._queue.get()
            try:
                await self._look_up(due)
            except (PlatformError, ApiError, InvalidRecord) as error:
                logger.warning("purchase %s is not reconciled: %s", due.purchase_id, error)
            except Exception:
                # A bug met on one purchase: the others are looked up all the same.
                logger.exception("purchase %s is not reconciled", due.purchase_id)
            finally:
                self._under_way.discard(due)
                self._queue.task_done()

    async def _look_up(self, due: Due) -> None:
        purchase = self._purchase(due)
        if purchase is None:
            return
        if self._lanes.clock() < purchase.expires_at <= self._lanes.clock() + self._every:
            _remember(self._expiring, purchase.id, due.partition)
        else:
            self._expiring.pop(purchase.id, None)
        rows = self._lanes[due.partition].processor.rows
        query = query_of(purchase, rows.merchant(purchase.merchant_id))
        platform = self._platforms.get(purchase.platform)
        if query is None or platform is None or not platform.looks_up:
            return
        key = limit_of(purchase.platform, query)
        if self._paused.get(key, self._lanes.clock()) > self._lanes.clock():
            self._metrics.lookups_skipped.labels(purchase.platform).inc()
            return
        self._paused.pop(key, None)
        try:
            found = await platform.find_charge(query)
        except (TemporaryFailure, CredentialsRefused) as error:
            self._pause(key, error)
            raise
        if found is not None and is_of(found, query):
            await self._report(due, found)

    async def _report(self, due: Due, found: base.FoundCharge) -> None:
        # As it is now, on whichever worker that is.
        purchase = self._purchase(due)
        if purchase is None:
            return
        record = record_of(purchase, found, self._max_record_bytes)
        if record is None or found.event is None:
            return
        now, status = self._lanes.clock(), found.event.status
        before = self._reported.get(purchase.id)
        if before is not None and before.status == status and now < before.at + AGAIN:
            return
        await self._ingress.put(record)
        _remember(self._reported, purchase.id, Reported(due.partition, status, found.paid, now))
        self._metrics.lookups_reported.labels(purchase.platform, found.outcome).inc()
        logger.info("purchase %s is %s at %s", purchase.id, found.outcome, purchase.platform)

    def _purchase(self, due: Due) -> Purchase | None:
        """The purchase, where this worker owns it and it is not credited."""
        lane = self._lanes.get(due.partition) if self._lanes.ready else None
        purchase = None if lane is None else lane.processor.rows.purchase(due.purchase_id)
        return None if purchase is None or purchase.status in CREDITED else purchase

    def _pause(self, key: str, error: PlatformError) -> None:
        seconds = error.after_seconds if isinstance(error, TryLater) else None
        pause = PAUSE if seconds is None else min(timedelta(seconds=seconds), PAUSE_MAX)
        _remember(self._paused, key, self._lanes.clock() + pause)

    def _forget_settled(self) -> None:
        for purchase_id, reported in list(self._reported.items()):
            if self._purchase(Due(reported.partition, purchase_id)) is None:
                del self._reported[purchase_id]


def _remember(known: "OrderedDict[str, T]", key: str, value: T) -> None:
    """Keep it as the newest; the oldest goes when there are too many."""
    known.pop(key, None)
    known[key] = value
    if len(known) > REMEMBERED_MAX:
        known.popitem(last=False)
