"""Keeps the Kafka clients of a process from waiting for a broker that does not answer.

A broker that hangs still accepts connections. aiokafka asks any broker for metadata and
coordinators, waits each time as long as for any request, asks for no new metadata after that, and
opens no other connection while it waits for one. So each client would find new leaders
and coordinators only after several timeouts in a row. And a client that last saw two of three
brokers away never asks again at the addresses that it was given.

A broker that refuses connections is asked again by aiokafka as fast as callers repeat their
requests. Here a task alone tries it again, with pauses that grow.
"""

import asyncio
import logging
import random
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from aiokafka.client import ConnectionGroup
from aiokafka.errors import KafkaConnectionError, KafkaError, RequestTimedOutError
from msgspec import Struct, field

from billing_stream.kafka.answering_broker import answering, connect, failure_text

logger = logging.getLogger(__name__)

# The pauses between two tries of a broker: doubled each time, up to the longest.
PROBE_SECONDS_FIRST = 0.05
PROBE_SECONDS = 1.0
NO_ANSWER = "Kafka has not answered since"
# One that has let a request wait for so long is not asked for metadata or coordinators.
SLOW_SECONDS = 2.0
# So that whoever tries again at once does not do so thousands of times.
PAUSE_SECONDS = 0.1


class Backoff(Struct):
    """When to try again; each pause is twice the last, less a random part of up to a half."""

    tries: int = 0
    until: float = 0.0

    def failed(self) -> None:
        """Set the pause after one more failure."""
        longest = min(PROBE_SECONDS, PROBE_SECONDS_FIRST * 2 ** min(self.tries, 30))
        self.until = time.monotonic() + random.uniform(longest / 2, longest)
        self.tries += 1


class _Away(Struct):
    server: str
    backoff: Backoff
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    # Known as soon as a connection was tried.
    why: str | None = None


class SilentBrokers:
    """Brokers that let a request time out or refuse connections, known to all clients here.

    A request to one fails at once with NodeNotReadyError, until a new connection to it answers.
    `options` are those of the clients, with every address that was given: a client starts from
    one that answers. For the clients of one event loop.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self._away: dict[int, _Away] = {}
        # Ids of all brokers, as of the last failure.
        self._known: frozenset[int] = frozenset()
        self._probes: set[asyncio.Task[None]] = set()
        # The address that answered last, and when: clients that start together share it.
        self._answered: tuple[float, Sequence[str]] | None = None
        self._addresses = Backoff()
        self._asking = asyncio.Lock()

    def none_answers(self) -> str | None:
        """Since when no broker answers, and why, for people; None while one does."""
        away = dict(self._away)
        if not self._known or self._known - away.keys():
            return None
        found = [away[node_id] for node_id in sorted(self._known)]
        if any(one.why is None for one in found):
            return None
        since = max(one.since for one in found)
        each = "; ".join(f"{one.server}: {one.why}" for one in found)
        return f"{NO_ANSWER} {since:%H:%M:%S} UTC ({each})"

    def avoided_by(self, client: Any) -> None:
        """Have this AIOKafkaClient avoid them."""
        get_conn, send, update = client._get_conn, client.send, client._metadata_update
        bootstrap, connecting = client.bootstrap, asyncio.Lock()

        def is_slow(node_id: int) -> bool:
            conn = client._conns.get((node_id, ConnectionGroup.DEFAULT))
            waiting = conn is not None and bool(conn._requests)
            return waiting and time.monotonic() - conn._last_action > SLOW_SECONDS

        async def get_conn_of(node_id: Any, *, group: Any = None) -> Any:
            # Without a group it is for metadata, which any broker has.
            if self._is_away(node_id, client) or (group is None and is_slow(node_id)):
                await asyncio.sleep(PAUSE_SECONDS)
                if group is not None:
                    client.force_metadata_update()
                return None
            kind = group or ConnectionGroup.DEFAULT
            known = client._conns.get((node_id, kind))
            if known is not None and known.connected():
                return known
            # One after the other: those that waited need not try what has just failed.
            async with connecting:
                if self._is_away(node_id, client):
                    return None
                began = time.monotonic()
                conn = await get_conn(node_id, group=kind)
                if conn is None and isinstance(node_id, int):
                    self._note(client, node_id, hangs=time.monotonic() - began > SLOW_SECONDS)
                return conn

        async def send_to(node_id: int, request: Any, **options: Any) -> Any:
            try:
                return await send(node_id, request, **options)
            except RequestTimedOutError:
                self._note(client, node_id, hangs=True)
                raise

        async def bootstrap_from_answering() -> None:
            client._bootstrap_servers = await self._answering()
            try:
                await bootstrap()
            except KafkaError:
                self._answered = None
                raise

        async def metadata_update(cluster: Any, topics: Any) -> bool:
            if await update(cluster, topics):
                return True
            # None of the brokers that it knows answers, one of the addresses may (as KIP-899).
            self._answered = None
            try:
                await bootstrap_from_answering()
            except KafkaError:
                return False
            return bool(await update(cluster, topics))

        def get_random_node() -> int | None:
            every = [broker.nodeId for broker in client.cluster.brokers()]
            good = [id for id in every if id not in self._away and not is_slow(id)]
            return random.choice(good or every) if every else None

        client._get_conn, client.send = get_conn_of, send_to
        client.bootstrap = bootstrap_from_answering
        client._metadata_update, client.get_random_node = metadata_update, get_random_node

    async def _answering(self) -> Sequence[str]:
        async with self._asking:
            if self._answered is None or time.monotonic() - self._answered[0] > SLOW_SECONDS:
                if time.monotonic() < self._addresses.until:
                    raise KafkaConnectionError("no address has answered a moment ago")
                try:
                    found: Sequence[str] = (await answering(self._options))["bootstrap_servers"]
                except KafkaError:
                    self._addresses.failed()
                    raise
                self._addresses = Backoff()
                self._answered = time.monotonic(), found
            return self._answered[1]

    def _note(self, client: Any, node_id: int, *, hangs: bool) -> None:
        broker = client.cluster.broker_metadata(node_id)
        if broker is None:
            return
        if node_id not in self._away:
            away = _Away(f"{broker.host}:{broker.port}", Backoff())
            away.backoff.failed()
            if hangs:
                away.backoff.until = time.monotonic() + PROBE_SECONDS
            self._away[node_id] = away
        self._known = frozenset(one.nodeId for one in client.cluster.brokers())
        # Others lead its partitions soon, and aiokafka does not ask for that after a timeout.
        client.force_metadata_update()

    def _is_away(self, node_id: int, client: Any) -> bool:
        if node_id not in self._away:
            return False
        broker, away = client.cluster.broker_metadata(node_id), self._away[node_id]
        if broker is not None and away.server != f"{broker.host}:{broker.port}":
            # It has moved, or has never been asked there.
            self._away.pop(node_id, None)
            return False
        if broker is not None and away.backoff.until < time.monotonic():
            away.backoff.until = float("inf")
            probe = asyncio.create_task(self._probe(node_id, away))
            self._probes.add(probe)
            probe.add_done_callback(self._probes.discard)
        return True

    async def _probe(self, node_id: int, away: _Away) -> None:
        try:
            (await connect(away.server, self._options)).close()
        except (KafkaError, OSError, TimeoutError) as error:
            if away.why is None and len(self._known) > 1:
                logger.warning("broker %s does not answer: %s", away.server, failure_text(error))
            away.why = failure_text(error)
            away.backoff.failed()
        else:
            if away.why is not None and len(self._known) > 1:
                logger.info("broker %s answers again", away.server)
            if self._away.get(node_id) is away:
                del self._away[node_id]
