"""One run over all purchases since a time: asks, compares, and writes what was missed."""

import asyncio
from collections.abc import Iterator, Mapping
from datetime import datetime

from msgspec import Struct

from billing_stream.console.progress import Progress
from billing_stream.domain.model import Merchant, Platform, Purchase
from billing_stream.errors import BillingError, InvalidRecord, PlatformError
from billing_stream.migration.current_rows import CurrentRows
from billing_stream.ops.reconcile.comparing import Report, differences
from billing_stream.platforms import base
from billing_stream.platforms.base import PlatformEventKind
from billing_stream.platforms.platform_http import TryLater
from billing_stream.platforms.stripe import Stripe
from billing_stream.platforms.stripe_events import undelivered
from billing_stream.reconcile.charges import (
    CREDITED,
    is_of,
    limit_of,
    query_of,
    record_of,
    record_of_event,
)
from billing_stream.tables import codecs
from billing_stream.web.envelope import ApiError
from billing_stream.web.ingress import Ingress, WebhookRecord

# Of a platform that says when to ask again.
ATTEMPTS_MAX = 3
WAIT_MAX = 600.0


class NotWritten(BillingError):
    """Kafka did not acknowledge a record."""


class RunOptions(Struct, frozen=True, kw_only=True):
    """The purchases to be looked up: opened since then, of one merchant or of all."""

    since: datetime
    merchant: str | None = None
    dry_run: bool = False
    concurrency: int = 8
    max_record_bytes: int = 262_144


class ReconcileRun:
    """Looks up the purchases of committed rows; nothing is written with `dry_run`."""

    def __init__(
        self,
        rows: CurrentRows,
        platforms: Mapping[Platform, base.Platform],
        ingress: Ingress,
        options: RunOptions,
        progress: Progress,
    ) -> None:
        self._rows = rows
        self._platforms = platforms
        self._ingress = ingress
        self._options = options
        self._progress = progress
        self._done = 0
        # By limit, until when a platform wants to be left alone.
        self._not_before: dict[str, float] = {}
        self.report = Report(dry_run=options.dry_run)

    async def run(self) -> Report:
        """The report. Raises NotWritten where Kafka does not take a record."""
        purchases = list(self._purchases())
        left = iter(purchases)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._options.concurrency):
                    group.create_task(self._look_up_each(left, len(purchases)))
        except* NotWritten as failed:
            raise NotWritten(str(failed.exceptions[0])) from None
        stripe = self._platforms.get(Platform.STRIPE)
        if isinstance(stripe, Stripe):
            await self._send_undelivered(stripe)
        return self.report

    def _purchases(self) -> Iterator[Purchase]:
        for row in self._rows.purchases.values():
            purchase = codecs.purchase.decode(row)
            of = self._options.merchant
            if purchase.created_at >= self._options.since and of in (None, purchase.merchant_id):
                yield purchase

    async def _look_up_each(self, left: Iterator[Purchase], total: int) -> None:
        for purchase in left:
            try:
                await self._look_up(purchase)
            except (PlatformError, InvalidRecord) as error:
                self.report.errors[f"{purchase.platform}: {error}"] += 1
            self._done += 1
            self._progress("look up", self._done, total)

    async def _look_up(self, purchase: Purchase) -> None:
        platform = self._platforms.get(purchase.platform)
        row = self._rows.merchants.get(purchase.merchant_id)
        merchant: Merchant | None = None if row is None else codecs.merchant.decode(row)
        query = query_of(purchase, merchant)
        if query is None:
            self.report.not_asked["without a charge"] += 1
            return
        if platform is None or not platform.looks_up:
            self.report.not_asked[f"{purchase.platform} cannot be asked with these settings"] += 1
            return
        found = await self._find(platform, query, limit_of(purchase.platform, query))
        self.report.asked += 1
        if found is None or not is_of(found, query):
            self.report.not_asked[f"{purchase.platform} does not know the charge"] += 1
            return
        self.report.findings += differences(purchase, found)
        record = record_of(purchase, found, self._options.max_record_bytes)
        if record is not None:
            await self._put(record)

    async def _find(
        self, platform: base.Platform, query: base.ChargeQuery, limit: str
    ) -> base.FoundCharge | None:
        """The charge; waits as long as the platform says, for a while. Raises PlatformError."""
        time = asyncio.get_running_loop().time
        for attempt in range(ATTEMPTS_MAX):
            await asyncio.sleep(max(0.0, self._not_before.get(limit, 0.0) - time()))
            try:
                return await platform.find_charge(query)
            except TryLater as error:
                seconds = error.after_seconds
                if seconds is None or seconds > WAIT_MAX or attempt == ATTEMPTS_MAX - 1:
                    raise
                self._not_before[limit] = time() + seconds
        return None

    async def _send_undelivered(self, stripe: Stripe) -> None:
        """Send the events that sessions do not show, as refunds, oldest first."""
        events = [event async for event in undelivered(stripe, self._options.since)]
        for event in reversed(events):
            row = self._rows.purchases.get(event.purchase_id or "")
            purchase = None if row is None else codecs.purchase.decode(row)
            if purchase is None or event.merchant_id != purchase.merchant_id:
                continue
            if self._options.merchant not in (None, purchase.merchant_id):
                continue
            if event.kind is PlatformEventKind.UPDATED and purchase.status in CREDITED:
                continue
            try:
                record = record_of_event(purchase, event, self._options.max_record_bytes)
            except InvalidRecord as error:
                self.report.errors[f"stripe: {error}"] += 1
                continue
            self.report.undelivered += 1
            await self._put(record)

    async def _put(self, record: WebhookRecord) -> None:
        self.report.sent += 1
        if self._options.dry_run:
            return
        try:
            await self._ingress.put(record)
        except ApiError as error:
            raise NotWritten(str(error.message)) from None
