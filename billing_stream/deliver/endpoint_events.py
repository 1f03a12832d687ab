"""Changes of endpoints: noted in PostgreSQL with the change, then published as events."""

import asyncio
import logging
from collections.abc import Awaitable, Collection
from datetime import datetime
from typing import Any

from aiokafka.errors import IllegalOperation, KafkaError
from msgspec import Struct
from yarl import URL

from billing_stream.config.settings import Settings
from billing_stream.faust_adapter.unfinished import finish
from billing_stream.kafka.acls import ENDPOINT_EVENTS
from billing_stream.kafka.client_options import client_options
from billing_stream.kafka.producers import new_producer
from billing_stream.records.endpoint_changes import (
    PARTITION,
    EndpointChanged,
    EndpointState,
    endpoint_event,
)
from billing_stream.records.topics import ENDPOINT_CHANGED, Topics

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
AGAIN_SECONDS = 5.0
KAFKA_SECONDS_MAX = 20.0
STOP_SECONDS_MAX = 5.0

_NOTE = """
INSERT INTO webhook_endpoint_changes (endpoint_id, state, url, reason, last_error, queued)
SELECT id, $2, url, disabled_because, last_error,
    (SELECT count(*) FROM webhook_deliveries d WHERE d.endpoint_id = e.id)
FROM webhook_endpoints e WHERE id = ANY($1) ORDER BY id
"""
_OLDEST = "SELECT * FROM webhook_endpoint_changes ORDER BY number LIMIT 1"
_DONE = "DELETE FROM webhook_endpoint_changes WHERE number = $1"


class _Change(Struct, frozen=True, kw_only=True):
    number: int
    changed_at: datetime
    endpoint_id: str
    state: str
    url: str
    reason: str | None
    last_error: str | None
    queued: int

    def event(self) -> bytes:
        """Its event. A path may be a secret, as a query is."""
        changed = EndpointChanged(
            endpoint_id=self.endpoint_id,
            state=EndpointState(self.state),
            url=str(URL(self.url).origin()),
            reason=self.reason,
            last_error=self.last_error,
            queued=self.queued,
        )
        return endpoint_event(changed, self.changed_at)


class NotPublished(Exception):
    """Kafka has not confirmed an event; the text is why."""


async def note_change(connection: Any, endpoint_ids: Collection[str], state: EndpointState) -> None:
    """Note that endpoints were changed, in the transaction that changes them."""
    await connection.execute(_NOTE, list(endpoint_ids), state.value)


class EndpointEvents:
    """Publishes changes one after the other, in their order; without Kafka they wait.

    A change is deleted after Kafka has its event: a kill between repeats it, with the same id.
    """

    def __init__(self, settings: Settings, topics: Topics) -> None:
        self._options = client_options(settings)
        self._topic = topics.name(ENDPOINT_CHANGED)
        self._id = f"{topics.prefix}{topics.app_id}-{ENDPOINT_EVENTS}"
        self.trouble = ""
        """Why changes wait; empty while none does."""

    async def run(self, connection: Any, lock: asyncio.Lock) -> None:
        """Publish until it is cancelled. Raises asyncpg's errors."""
        while True:
            if await _oldest(connection, lock) is not None:
                try:
                    await self._publish(connection, lock)
                except NotPublished as error:
                    if str(error) != self.trouble:
                        logger.warning("%s: retrying until it is done", error)
                    self.trouble = str(error)
                    await asyncio.sleep(AGAIN_SECONDS)
                    continue
            self.trouble = ""
            await asyncio.sleep(LOOK_SECONDS)

    async def _publish(self, connection: Any, lock: asyncio.Lock) -> None:
        producer = new_producer(self._options, self._id)
        try:
            # Brokers refuse an earlier process from here on. Only then is asked what is left, on
            # the connection that only one process has.
            await _confirmed(producer.start())
            while (change := await _oldest(connection, lock)) is not None:
                await _confirmed(self._send(producer, change))
                async with lock:
                    await connection.execute(_DONE, change.number)
        finally:
            await finish(producer.stop(), STOP_SECONDS_MAX, "disconnecting from Kafka")

    async def _send(self, producer: Any, change: _Change) -> None:
        key = change.endpoint_id.encode()
        await producer.begin_transaction()
        await producer.send_and_wait(self._topic, change.event(), key=key, partition=PARTITION)
        await producer.commit_transaction()


async def _oldest(connection: Any, lock: asyncio.Lock) -> _Change | None:
    async with lock:
        row = await connection.fetchrow(_OLDEST)
    return None if row is None else _Change(**dict(row))


async def _confirmed(work: Awaitable[None]) -> None:
    try:
        async with asyncio.timeout(KAFKA_SECONDS_MAX):
            await work
    except (KafkaError, IllegalOperation, TimeoutError) as error:
        why = f"{type(error).__name__} {error}".strip()
        raise NotPublished(f"changes of endpoints are not published ({why})") from error
