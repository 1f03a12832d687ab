"""The one process that delivers, or waits to be it, whatever becomes of PostgreSQL."""

import asyncio
import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

from billing_stream.config.settings import Settings
from billing_stream.deliver.deliver_metrics import Metrics
from billing_stream.deliver.dispatcher import Dispatcher
from billing_stream.deliver.endpoint_events import EndpointEvents
from billing_stream.deliver.event_reader import EventReader
from billing_stream.deliver.locks import leads
from billing_stream.deliver.sending import Sender
from billing_stream.errors import SettingsError
from billing_stream.projector.database import Database, close
from billing_stream.projector.migrate import migrate
from billing_stream.projector.projector_errors import (
    DATABASE_AWAY,
    REFUSED,
    PositionsMoved,
    ProjectionError,
    cause_of,
)

logger = logging.getLogger(__name__)

VERSIONS = Path(__file__).parent / "versions"
SCHEMA_SUFFIX = "webhooks"
LEAD_SECONDS = 1.0
WAIT_SECONDS_MIN = 0.25
WAIT_SECONDS_MAX = 5.0
NOT_YET = "PostgreSQL has not been reached yet"


def database_of(settings: Settings) -> Database:
    """The schema of outgoing webhooks, named after that of the projection. Raises SettingsError."""
    url = settings.database_url.get_secret_value() if settings.database_url is not None else ""
    if not url:
        raise SettingsError("DATABASE_URL: is needed by billing-stream deliver")
    return Database(url, settings.projection_schema).beside(SCHEMA_SUFFIX)


async def migrate_webhooks(database: Database) -> None:
    """Make or upgrade the tables. Raises as `projector.migrate`."""
    await migrate(database.url, database.schema, versions=VERSIONS)


class Delivery:
    """Delivers while its connection holds the lock; on standby while another one does."""

    def __init__(
        self,
        settings: Settings,
        reader: EventReader,
        sender: Sender,
        changes: EndpointEvents,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._database = database_of(settings)
        self._reader = reader
        self._sender = sender
        self._changes = changes
        self._metrics = metrics
        self._outage = NOT_YET
        self._connected_before = False
        self._wait = WAIT_SECONDS_MIN
        self._standby = False
        self._dispatcher: Dispatcher | None = None

    def problems(self) -> list[str]:
        """Why this process cannot deliver, nor take over; empty when it can."""
        return [self._outage] if self._outage else []

    def warnings(self) -> list[str]:
        """What an operator should know: standby, disabled endpoints, events that are missing."""
        found = ["another process delivers: this one is on standby"] if self._standby else []
        if self._dispatcher is None:
            return found
        found += [self._changes.trouble] if self._changes.trouble else []
        found += [
            f"endpoint {one.id} is disabled: {one.disabled_because}"
            for one in self._dispatcher.disabled()
        ]
        found += [
            f"events of merchant {one.merchant_id} wait for its event {one.missing}, which was not "
            f"read, since {one.waiting_since:%Y-%m-%dT%H:%M:%SZ}"
            for one in self._dispatcher.missing
        ]
        return found

    async def run(self, stopping: asyncio.Event) -> None:
        """Deliver until `stopping` is set. Raises ProjectionError for what no waiting fixes."""
        while not stopping.is_set():
            try:
                connection = await self._connect()
                try:
                    if await self._lead(connection, stopping):
                        await self._deliver(connection, stopping)
                finally:
                    await close(connection)
            except (*DATABASE_AWAY, PositionsMoved) as error:
                self._note_outage(error)
                with suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), self._wait)
                self._wait = min(2 * self._wait, WAIT_SECONDS_MAX)
            finally:
                self._metrics.active.set(0)

    async def _connect(self) -> Any:
        try:
            await migrate_webhooks(self._database)
            connection = await self._database.connect(writable=True)
        except REFUSED as error:
            if self._connected_before:
                raise
            raise ProjectionError(f"PostgreSQL refuses the connection: {error}") from None
        self._connected_before = True
        return connection

    async def _lead(self, connection: Any, stopping: asyncio.Event) -> bool:
        """Wait for the lock; False when `stopping` was set before."""
        silent_max = self._settings.session_timeout
        while not await leads(connection, self._database.schema, silent_max):
            self._note_up()
            if not self._standby:
                logger.info("on standby: another process delivers")
            self._standby = True
            with suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), LEAD_SECONDS)
            if stopping.is_set():
                return False
        self._standby = False
        self._note_up()
        self._metrics.active.set(1)
        logger.info("delivering the events of %s", self._settings.app_id)
        return True

    async def _deliver(self, connection: Any, stopping: asyncio.Event) -> None:
        """Read and send, on this connection only: without it, another process may."""
        lock = asyncio.Lock()
        dispatcher = Dispatcher(connection, lock, self._sender, self._settings, self._metrics)
        self._dispatcher = dispatcher
        reading = asyncio.create_task(self._reader.run(connection, lock, dispatcher.queued))
        watching = asyncio.create_task(self._reader.watch_lag())
        sending = asyncio.create_task(dispatcher.run(stopping))
        publishing = asyncio.create_task(self._changes.run(connection, lock))
        working = (reading, sending, publishing)
        try:
            await asyncio.wait(working, return_when=asyncio.FIRST_COMPLETED)
            for task in working:
                if task.done():
                    task.result()
        finally:
            for task in (watching, *working):
                task.cancel()
            await asyncio.gather(watching, *working, return_exceptions=True)
            self._dispatcher = None

    def _note_up(self) -> None:
        self._metrics.database_up.set(1)
        self._wait = WAIT_SECONDS_MIN
        if self._outage not in ("", NOT_YET):
            logger.info("PostgreSQL answers again")
        self._outage = ""

    def _note_outage(self, error: BaseException) -> None:
        self._metrics.database_up.set(0)
        detail = f"{type(error).__name__}: {error}".splitlines()[0]
        text = f"PostgreSQL {cause_of(error)} ({detail})"
        if text != self._outage:
            logger.warning("%s: retrying until it answers", text)
        self._outage = text
