"""Processes of `billing-stream deliver`, and stores of events without Kafka."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec

from billing_stream.config.background_settings import BackgroundSettings
from billing_stream.deliver import endpoints, event_store
from billing_stream.deliver.deliver_metrics import Metrics
from billing_stream.deliver.delivery import database_of, migrate_webhooks
from billing_stream.deliver.dispatcher import Dispatcher
from billing_stream.deliver.event_bodies import StoredEvent
from billing_stream.deliver.locks import written
from billing_stream.deliver.sending import Sender
from billing_stream.records.topics import event_type
from tests.support.projection import ProjectorProcess, projector_environment
from tests.support.worker import BIN, run

MERCHANT = "00000000-0000-4000-8000-00000000000a"
OTHER_MERCHANT = "00000000-0000-4000-8000-00000000000b"
PURCHASED = event_type("credits.purchased")
EXPIRED = event_type("trial.expired")


class DeliverProcess(ProjectorProcess):
    """One `billing-stream deliver`."""

    def __init__(self, env: Mapping[str, str], folder: Path) -> None:
        super().__init__(env, folder)
        self.command = [str(BIN), "deliver"]
        self.env["BILLING_DELIVER_PORT"] = str(self.port)


def deliver_environment(kafka: str, prefix: str, database_url: str, **extra: str) -> dict[str, str]:
    """The environment of a process that may deliver to a receiver of the test."""
    private = {"BILLING_WEBHOOKS_ALLOW_PRIVATE": "true"}
    return projector_environment(kafka, prefix, database_url, **private, **extra)


@asynccontextmanager
async def delivering(env: Mapping[str, str], folder: Path) -> AsyncIterator[DeliverProcess]:
    """A process that was started; killed at the end, whatever happened."""
    started = DeliverProcess(env, folder)
    await started.start()
    try:
        yield started
    finally:
        await started.kill()


async def add_endpoint(env: Mapping[str, str], *arguments: str) -> str:
    """Add an endpoint by the command; its secret."""
    code, output = await run(env, "deliver", "endpoints", "add", *arguments)
    assert code == 0, output
    return output.splitlines()[-1]


def event(sequence: int, merchant: str = MERCHANT, kind: str = PURCHASED) -> StoredEvent:
    """An event as it is stored."""
    at = datetime.now(UTC)
    event_id = f"{merchant}/{sequence}"
    data = {"merchant_id": merchant}
    body = {"type": kind, "sequence": sequence, "event_id": event_id, "data": data}
    return StoredEvent(event_id, merchant, sequence, kind, at, msgspec.json.encode(body))


class Delivered:
    """A dispatcher without Kafka, on tables of its own: events are stored by the test."""

    def __init__(self, database_url: str, **settings: str) -> None:
        env = deliver_environment("127.0.0.1:9", "t.", database_url, **settings)
        with mock.patch.dict("os.environ", env, clear=True):
            self.settings = BackgroundSettings.from_env()
        self.database = database_of(self.settings)
        self.metrics = Metrics()
        self.lock = asyncio.Lock()
        self.stopping = asyncio.Event()

    async def start(self) -> None:
        """Make the tables, and begin to deliver."""
        await migrate_webhooks(self.database)
        self.connection: Any = await self.database.connect()
        self.sender = Sender(
            self.settings.deliver_timeout, allow_private=self.settings.webhooks_allow_private
        )
        self.dispatcher = Dispatcher(
            self.connection, self.lock, self.sender, self.settings, self.metrics
        )
        self.running = asyncio.create_task(self.dispatcher.run(self.stopping))

    async def close(self) -> None:
        """Stop, and raise what ended it before."""
        self.stopping.set()
        self.dispatcher.queued.set()
        try:
            await self.running
        finally:
            await self.sender.close()
            await self.connection.close()

    async def crash(self) -> None:
        """End it as a lost connection does: nothing more is noted."""
        self.running.cancel()
        with suppress(asyncio.CancelledError):
            await self.running
        await self.sender.close()
        self.connection.terminate()

    async def add(self, endpoint_id: str, url: str, types: list[str] | None = None) -> str:
        """An endpoint for all events of the test; its secret."""
        begins_at = datetime.now(UTC) - timedelta(days=365)
        async with self.lock:
            return await endpoints.add(self.connection, endpoint_id, url, types, begins_at)

    async def store(self, events: Iterable[StoredEvent]) -> None:
        """Store events, as if they had been read."""
        async with self.lock, written(self.connection):
            await event_store.add(self.connection, list(events))
        self.dispatcher.queued.set()

    async def endpoint(self, endpoint_id: str) -> endpoints.Endpoint:
        """An endpoint as it is stored."""
        async with self.lock:
            found = await endpoints.endpoints(self.connection)
        return next(one for one in found if one.id == endpoint_id)


@asynccontextmanager
async def delivered(database_url: str, **settings: str) -> AsyncIterator[Delivered]:
    """A dispatcher that runs, with these settings by their variables."""
    started = Delivered(database_url, **settings)
    await started.start()
    try:
        yield started
    finally:
        await started.close()
