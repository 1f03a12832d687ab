"""Sends events: each merchant's in order, endpoints independently of each other."""

import asyncio
import logging
import time
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from typing import Any

from billing_stream.config.settings import Settings
from billing_stream.deliver import delivery_rounds, endpoints, event_store
from billing_stream.deliver.deliver_metrics import Metrics
from billing_stream.deliver.delivery_rounds import Due, Noted, Queue, Sent
from billing_stream.deliver.endpoints import Endpoint
from billing_stream.deliver.event_store import MissingEvent
from billing_stream.deliver.locks import written
from billing_stream.deliver.sending import Sender

logger = logging.getLogger(__name__)

# A round begins when there is something to note or to send, and after this for what is due.
ROUND_SECONDS = 0.5
COUNT_SECONDS = 10.0
PRUNE_SECONDS = 60.0
PRUNE_EVENTS_MAX = 5_000
MISSING_AFTER = timedelta(minutes=1)
MISSING_LISTED_MAX = 100
STOP_SECONDS_MAX = 10.0


class Dispatcher:
    """Takes queues that are due, on a connection that leads, and notes what became of them.

    A queue is in memory while its events are sent, and until that is noted: killed before, it
    repeats them. `lock` is for the connection, which others use too.
    """

    def __init__(
        self, connection: Any, lock: asyncio.Lock, sender: Sender, settings: Settings, m: Metrics
    ) -> None:
        self._connection = connection
        self._lock = lock
        self._sender = sender
        self._settings = settings
        self._metrics = m
        # Set when something was queued, or sent: a round begins.
        self.queued = asyncio.Event()
        self._busy: dict[Queue, asyncio.Task[None]] = {}
        self._finished: list[Queue] = []
        self._results: list[Sent] = []
        self._endpoints: dict[str, Endpoint] = {}
        # An endpoint that asked to wait (Retry-After) gets nothing until then.
        self._paused: dict[str, float] = {}
        self._counted = self._pruned = 0.0
        self.missing: list[MissingEvent] = []

    def disabled(self) -> list[Endpoint]:
        """Endpoints that are disabled."""
        return [one for one in self._endpoints.values() if one.disabled_at is not None]

    async def run(self, stopping: asyncio.Event) -> None:
        """Deliver until `stopping` is set; requests in flight are finished, and noted.

        Raises asyncpg's errors; results that were not noted are repeated.
        """
        try:
            while not stopping.is_set():
                self.queued.clear()
                await self._round(stopping)
                await self._look_after()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.queued.wait(), ROUND_SECONDS)
            end = time.monotonic() + STOP_SECONDS_MAX
            while self._busy and time.monotonic() < end:
                await asyncio.wait(self._busy.values(), timeout=ROUND_SECONDS)
                await self._round(stopping)
        finally:
            # Without the lock another process may be sending by now.
            for task in self._busy.values():
                task.cancel()
            await asyncio.gather(*self._busy.values(), return_exceptions=True)

    async def _round(self, stopping: asyncio.Event) -> None:
        results, self._results = self._results, []
        finished, self._finished = self._finished, []
        async with self._lock, written(self._connection):
            noted = await delivery_rounds.note(
                self._connection, results, self._settings.deliver_retry_for
            )
            known = await endpoints.endpoints(self._connection)
            for queue in finished:
                task = self._busy.pop(queue)
                await asyncio.wait({task})
                # Any error but those of a request is fatal.
                if not task.cancelled():
                    task.result()
            self._endpoints = {one.id: one for one in known}
            free = {} if stopping.is_set() else self._free()
            due = await delivery_rounds.due(self._connection, free, self._busy)
        self._metrics.known(known)
        self._report(noted)
        for queue, events in due.items():
            self._busy[queue] = asyncio.create_task(self._send(queue, events, stopping))

    def _free(self) -> dict[str, int]:
        """How many more queues of each endpoint may be sent at once."""
        now = time.monotonic()
        self._paused = {one: until for one, until in self._paused.items() if until > now}
        busy = Counter(queue.endpoint_id for queue in self._busy)
        return {
            one.id: self._settings.deliver_concurrency - busy[one.id]
            for one in self._endpoints.values()
            if one.disabled_at is None and one.id not in self._paused
        }

    async def _send(self, queue: Queue, events: list[Due], stopping: asyncio.Event) -> None:
        try:
            for event in events:
                endpoint = self._endpoints.get(queue.endpoint_id)
                if endpoint is None or endpoint.disabled_at is not None or stopping.is_set():
                    return
                began = time.monotonic()
                sent = await self._sender.send(endpoint, queue, event)
                self._metrics.seconds.labels(endpoint.id).observe(time.monotonic() - began)
                result = "delivered" if sent.error is None else "failed"
                self._metrics.requests.labels(endpoint.id, result).inc()
                self._results.append(sent)
                self.queued.set()
                if sent.error is not None:
                    self._note_failure(sent)
                    return
        finally:
            self._finished.append(queue)
            self.queued.set()

    def _note_failure(self, sent: Sent) -> None:
        logger.warning(
            "endpoint %s did not take event %s (attempt %s): %s; next try in %.0f s",
            sent.queue.endpoint_id,
            sent.event.event_id,
            sent.event.attempts + 1,
            sent.error,
            sent.delay.total_seconds(),
        )
        if sent.wait:
            until = time.monotonic() + sent.wait
            self._paused[sent.queue.endpoint_id] = until

    def _report(self, noted: Noted) -> None:
        for endpoint_id, because in noted.disabled.items():
            logger.error(
                "endpoint %s was disabled: %s. Its events are kept; when it works again: "
                "billing-stream deliver endpoints enable %s",
                endpoint_id,
                because,
                endpoint_id,
            )
        for sent in noted.given_up:
            self._metrics.given_up.labels(sent.queue.endpoint_id).inc()
            logger.error(
                "event %s of merchant %s was given up at endpoint %s (%s); when it can be taken: "
                "billing-stream deliver redeliver %s %s",
                sent.event.event_id,
                sent.queue.merchant_id,
                sent.queue.endpoint_id,
                sent.error,
                sent.queue.endpoint_id,
                sent.event.event_id,
            )

    async def _look_after(self) -> None:
        """Count the queues, and delete events that are too old, from time to time."""
        now = time.monotonic()
        if now - self._counted > COUNT_SECONDS:
            self._counted = now
            async with self._lock:
                self._metrics.waiting(await delivery_rounds.pending(self._connection))
                self.missing = await event_store.missing_events(
                    self._connection, MISSING_AFTER, MISSING_LISTED_MAX
                )
            self._metrics.missing.set(len(self.missing))
        if now - self._pruned > PRUNE_SECONDS:
            async with self._lock, written(self._connection):
                lost, deleted = await event_store.prune(
                    self._connection, self._settings.deliver_retention, PRUNE_EVENTS_MAX
                )
            for endpoint_id, count in lost.items():
                logger.error(
                    "%s events for the disabled endpoint %s are older than "
                    "BILLING_DELIVER_RETENTION and were deleted",
                    count,
                    endpoint_id,
                )
            if deleted < PRUNE_EVENTS_MAX:
                self._pruned = now
