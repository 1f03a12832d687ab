"""What the pages work with: one per app, nothing of it global."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

import msgspec
from aiokafka.errors import KafkaError
from jinja2 import Environment
from msgspec import Struct

from billing_stream.config.settings import Settings
from billing_stream.engine.watchdog import Watchdog
from billing_stream.errors import BillingError
from billing_stream.kafka.error_classes import REFUSALS
from billing_stream.observability.metrics.worker_metrics import WorkerMetrics
from billing_stream.observability.metrics.worker_state import Lags
from billing_stream.ops.catalogue.catalogue_log import CatalogueLog
from billing_stream.ops.catalogue.course import CatalogueCourse, course_of
from billing_stream.ops.dead_letters import (
    ActionResult,
    Cluster,
    DeadLetterEntry,
    discard,
    redrive,
)
from billing_stream.ops.dead_letters.letter_follower import LetterFollower
from billing_stream.records.catalogue_records import SetVersion
from billing_stream.records.endpoint_changes import EndpointEvent
from billing_stream.records.topics import Topics
from billing_stream.web.envelope import ApiError, Ids, not_ready
from billing_stream.web.ops.business import Business, put_together
from billing_stream.web.ops.cluster_snapshot import ClusterFigures, ClusterSnapshot
from billing_stream.web.ops.endpoint_states import EndpointStates
from billing_stream.web.ops.exports import ExportLimit
from billing_stream.web.ops.figures import Figures
from billing_stream.web.ops.letters import DeadLetterSummaries, Letters
from billing_stream.web.ops.lists import Lists
from billing_stream.web.ops.page_rows import OwnRows
from billing_stream.web.ops.projected import Projected
from billing_stream.web.ops.projection_state import ProjectionState, ask_state
from billing_stream.web.ops.recorder import Recorder
from billing_stream.web.ops.rendering import new_environment
from billing_stream.web.ops.revenue import DAYS, Revenue, ask_revenue
from billing_stream.web.ops.shared import Shared
from billing_stream.web.peers import Peers
from billing_stream.web.projection import Projection

logger = logging.getLogger(__name__)

ROWS_PATH = "/internal/ops/rows"
CLUSTER_SECONDS = 1.0
BUSINESS_SECONDS = 5.0
# A walk over all rows takes a second of processor time per some million.
ROWS_SECONDS = 30.0
ASK_ROWS_SECONDS = 8.0
LETTERS_SECONDS = 2.0
CATALOGUE_SECONDS = 1.0
ENDPOINTS_SECONDS = 2.0
PROJECTION_SECONDS = 2.0
REVENUE_SECONDS = 60.0
# A page is for seeing what is wrong: it does not wait for what does not answer.
WAIT_SECONDS = 3.0
ACT_SECONDS = 8.0

_rows = msgspec.json.Decoder(Business | None)
Done = TypeVar("Done")
Content = TypeVar("Content")


class TotalsWithSource(Struct, frozen=True):
    """Trials, purchases and revenue, and where that is from.

    `business`: None when it is not known; `why` has the reason, for people.
    """

    business: Business | None
    projected: bool
    why: str | None


class DeadLettersResult(Struct, frozen=True):
    """The newest dead letters; or why they cannot be read."""

    seen: DeadLetterSummaries | None
    why: str | None


class EndpointsResult(Struct, frozen=True):
    """Endpoints of outgoing webhooks, disabled ones first; or why they cannot be read."""

    known: list[EndpointEvent] | None
    why: str | None


class ActionPending(Exception):
    """An action was begun, is not done yet, and continues."""


class Dashboard:
    """Figures of all workers, dead letters, the projection; and what can be done."""

    def __init__(
        self,
        settings: Settings,
        watchdog: Watchdog,
        peers: Peers,
        metrics: WorkerMetrics,
        ask_lags: Callable[[], Lags],
        letters: LetterFollower | None,
    ) -> None:
        self.environment: Environment = new_environment()
        self.currency = settings.currency
        self._packs = settings.packs
        self._clock = watchdog.lanes.clock
        self.recorder = Recorder(metrics, watchdog.lanes)
        self.figures = Figures(watchdog, self.recorder, ask_lags, metrics)
        self.reconcile = settings.reconcile
        self.letter_cluster = Cluster.of(settings)
        self.catalogue_log = CatalogueLog(self.letter_cluster)
        # Apart from the merchants' own: a slow question here must not be an answer to them.
        self._projection = Projection.of(settings)
        self.projected = Projected(self._projection)
        self.lists = Lists(self._projection)
        self.exports = ExportLimit()
        self._peers = peers
        self._cluster = ClusterFigures(self.figures, peers, settings.partitions)
        self._rows = OwnRows(watchdog.lanes)
        self._ids = Ids("ops", "ops")
        self._seen = Shared(lambda: self._cluster.look(self._ids), CLUSTER_SECONDS)
        self._own = Shared(self._rows.count, ROWS_SECONDS)
        self._business = Shared(self._sum, BUSINESS_SECONDS)
        self._newest = Letters(self.letter_cluster)
        self._follower = letters or LetterFollower(self.letter_cluster)
        self._follower.views.append(self._newest)
        self._letters = Shared(self._newest_letters, LETTERS_SECONDS)
        self._endpoints = Shared(EndpointStates(self.letter_cluster).look, ENDPOINTS_SECONDS)
        self._versions = Shared(lambda: self.catalogue_log.versions(), CATALOGUE_SECONDS)
        self.projected_topics = Topics(settings.app_id, settings.topic_prefix).projected()
        state = partial(ask_state, self._projection, self.projected_topics)
        self._projection_state = Shared(state, PROJECTION_SECONDS)
        self._revenue = {
            days: Shared(partial(ask_revenue, self._projection, days), REVENUE_SECONDS)
            for days in DAYS
        }
        self._acting = asyncio.Lock()
        self._under_way: set[asyncio.Future[Any]] = set()

    async def cluster(self) -> ClusterSnapshot:
        """All workers and partitions."""
        return await self._seen.get()

    async def own_rows(self) -> Business | None:
        """What the rows of this worker say, or None where they are not in memory."""
        return await self._own.get()

    async def business(self) -> TotalsWithSource:
        """Trials, purchases and revenue, of all merchants."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                return await self._business.get()
        except TimeoutError:
            return TotalsWithSource(
                None, False, "This takes longer than usual, and is still being counted."
            )

    async def projection_state(self) -> ProjectionState:
        """How far the projection is."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                return await self._projection_state.get()
        except TimeoutError:
            return ProjectionState(True, "the projection does not answer")

    async def revenue(self, days: int) -> Revenue | None:
        """Revenue of the last `days`, one of DAYS; None where it cannot be read now."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                return await self._revenue[days].get()
        except (ApiError, TimeoutError):
            return None

    async def letters(self) -> DeadLettersResult:
        """The newest dead letters."""
        return DeadLettersResult(*await _read(self._letters))

    async def endpoints(self) -> EndpointsResult:
        """Endpoints of outgoing webhooks."""
        return EndpointsResult(*await _read(self._endpoints))

    async def versions(self) -> list[SetVersion]:
        """The versions of the catalogue, as they were set. Raises ApiError (NOT_READY)."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                return await self._versions.get()
        except TimeoutError:
            raise not_ready("Kafka has not answered yet.") from None
        except (BillingError, KafkaError) as error:
            raise not_ready(why_not(error)) from None

    async def catalogue(self) -> CatalogueCourse:
        """The packs on sale, and the changes of each version. Raises as `versions` does."""
        return course_of(await self.versions(), self._packs, self._clock())

    def forget_catalogue(self) -> None:
        """Read it again the next time, because a version was just set."""
        self._versions.forget()

    async def redrive(
        self, letter: DeadLetterEntry, operator: str, reason: str, value: bytes | None = None
    ) -> ActionResult:
        """Redrive a dead letter, once; with `value` in place of its own if that is given.

        Raises ActionPending, DeadLettersError, KafkaError.
        """
        return await self._act(redrive, letter, by=operator, reason=reason, value=value)

    async def discard(self, letter: DeadLetterEntry, operator: str, reason: str) -> ActionResult:
        """Close a dead letter without a redrive, once. Raises as `redrive` does."""
        return await self._act(discard, letter, by=operator, reason=reason)

    async def rehearse(self, letter: DeadLetterEntry, value: bytes | None = None) -> ActionResult:
        """What a redrive would do. Raises DeadLettersError, KafkaError."""
        (outcome,) = await redrive(
            self.letter_cluster, [letter], by="nobody", reason="a look", value=value, dry_run=True
        )
        return outcome

    async def _act(
        self,
        action: Callable[..., Awaitable[list[ActionResult]]],
        letter: DeadLetterEntry,
        **how: Any,
    ) -> ActionResult:
        async def act() -> ActionResult:
            # One after the other: whoever comes second is told what the first has done.
            async with self._acting:
                (outcome,) = await action(self.letter_cluster, [letter], **how)
                self._letters.forget()
                return outcome

        return await self._finish(act())

    async def close(self) -> None:
        """Wait for the actions under way, then end."""
        await asyncio.gather(*self._under_way, return_exceptions=True)
        several: tuple[Shared[Any], ...] = (
            self._seen,
            self._own,
            self._business,
            self._letters,
            self._endpoints,
            self._versions,
            self._projection_state,
            *self._revenue.values(),
        )
        for shared in several:
            await shared.close()
        self._projection.close()

    async def _newest_letters(self) -> DeadLetterSummaries:
        await self._follower.look()
        return self._newest.summaries()

    async def _finish(self, work: Awaitable[Done]) -> Done:
        """An action that was begun is done, even when no request waits for it any more."""
        task = asyncio.ensure_future(work)
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        done, _ = await asyncio.wait([task], timeout=ACT_SECONDS)
        if not done:
            raise ActionPending
        return task.result()

    def _ended(self, task: asyncio.Future[Any]) -> None:
        self._under_way.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger.warning("nothing was done with a dead letter: %s", error)

    async def _sum(self) -> TotalsWithSource:
        why = "There is no projection: DATABASE_URL is not set."
        if self.projected.there:
            try:
                return TotalsWithSource(await self.projected.business(), True, None)
            except ApiError:
                why = "The projection does not answer."
        cluster = await self.cluster()
        told = await asyncio.gather(*(self._rows_of(worker.url) for worker in cluster.workers))
        parts = [part for part in told if part is not None]
        if len(parts) < len(told):
            return TotalsWithSource(None, False, why)
        return TotalsWithSource(put_together(parts), False, why)

    async def _rows_of(self, url: str) -> Business | None:
        if url == self._peers.own_url:
            return await self.own_rows()
        try:
            body = await self._peers.ask_at(url, ROWS_PATH, self._ids, ASK_ROWS_SECONDS)
            found: Business | None = _rows.decode(body)
            return found
        except (ApiError, msgspec.DecodeError):
            return None


async def _read(shared: Shared[Content]) -> tuple[Content | None, str | None]:
    """What was read of a topic, or why it cannot be read now."""
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            return await shared.get(), None
    except TimeoutError:
        return None, "Kafka has not answered yet."
    except (BillingError, KafkaError) as error:
        return None, why_not(error)


def why_not(error: Exception) -> str:
    """Why topics cannot be read or written, for people."""
    if isinstance(error, REFUSALS):
        return (
            "The brokers do not let this worker: its rights are printed by "
            "`billing-stream topics acls worker`."
        )
    if isinstance(error, BillingError):
        return str(error)
    return f"Kafka does not answer ({type(error).__name__})."
