"""Sessions that a logout has ended: a cookie is good on no worker from then on.

Each is a record of `billing.ended-sessions.v1`, which every worker reads from its beginning and
follows. Kafka deletes it after a day, long after its cookie has expired.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from billing_stream.engine.partitioner import partition_of
from billing_stream.kafka.consumers import consuming
from billing_stream.records.ended_sessions import EndedSession
from billing_stream.records.schemas import encode
from billing_stream.records.topics import ENDED_SESSIONS, Topics
from billing_stream.web.envelope import ApiError, WebCode, not_ready
from billing_stream.web.ingress import Ingress

logger = logging.getLogger(__name__)

# Beyond it those that expire soonest are forgotten; each takes a login and a logout.
SESSIONS_MAX = 100_000
POLL_MS = 1_000
AGAIN_SECONDS = 2.0

_decode = msgspec.json.Decoder(EndedSession).decode


class EndedSessions:
    """Which sessions were ended and have not expired.

    `loaded` is false until all records were read once: until then no cookie is believed.
    """

    def __init__(
        self, ingress: Ingress, partitions: int, clock: Callable[[], float] = time.time
    ) -> None:
        self.loaded = False
        self._ingress = ingress
        self._partitions = partitions
        self._clock = clock
        self._until: dict[str, float] = {}

    async def end(self, session: str, expires: float) -> None:
        """End a session everywhere. Raises ApiError (NOT_READY) when Kafka may not have it."""
        record = EndedSession(session, datetime.fromtimestamp(expires, UTC))
        partition = partition_of(session, self._partitions)
        await self._ingress.write(ENDED_SESSIONS, session.encode(), encode(record), partition)
        self.note(record)

    def note(self, record: EndedSession) -> None:
        """Remember a session that was ended, here or on another worker."""
        expires = record.expires_at.timestamp()
        if expires <= self._clock():
            return
        self._until[record.session] = expires
        if len(self._until) > SESSIONS_MAX:
            self._forget()

    def require_open(self, session: str) -> None:
        """Raise ApiError: UNAUTHORIZED for one that was ended, NOT_READY before all are known."""
        if not self.loaded:
            raise not_ready(
                "the sessions that were ended are not read from Kafka yet; a token in the header "
                "Authorization is accepted"
            )
        if session in self._until:
            raise ApiError(WebCode.UNAUTHORIZED, "this session was ended: please log in")

    def _forget(self) -> None:
        now = self._clock()
        left = {name: until for name, until in self._until.items() if until > now}
        if len(left) > SESSIONS_MAX:
            # A tenth, so that this does not happen at each.
            kept = sorted(left, key=left.__getitem__)[SESSIONS_MAX // 10 :]
            left = {name: left[name] for name in kept}
        self._until = left


class Follower:
    """Reads the ended sessions of all workers, for as long as an application lives."""

    def __init__(
        self, ended: EndedSessions, options: Mapping[str, Any], topics: Topics, partitions: int
    ) -> None:
        self._ended = ended
        self._options = options
        name = topics.name(ENDED_SESSIONS)
        self._read = [TopicPartition(name, number) for number in range(partitions)]

    async def watch(self) -> None:
        """Follow the topic until it is cancelled."""
        while True:
            try:
                await self._follow()
            except (KafkaError, TimeoutError, OSError) as error:
                logger.warning("ended sessions cannot be read: %s", error)
            await asyncio.sleep(AGAIN_SECONDS)

    async def _follow(self) -> None:
        async with consuming(self._options, committed=False) as consumer:
            consumer.assign(self._read)
            ends = await consumer.end_offsets(self._read)
            await consumer.seek_to_beginning(*self._read)
            while True:
                found = await consumer.getmany(*self._read, timeout_ms=POLL_MS)
                for records in found.values():
                    for record in records:
                        self._note(record.value)
                if not self._ended.loaded:
                    positions = [await consumer.position(tp) for tp in self._read]
                    at_end = zip(self._read, positions, strict=True)
                    self._ended.loaded = all(position >= ends[tp] for tp, position in at_end)

    def _note(self, value: bytes | None) -> None:
        try:
            self._ended.note(_decode(value or b""))
        except (msgspec.DecodeError, UnicodeDecodeError):
            logger.warning("a record of %s is not an ended session", ENDED_SESSIONS)
