"""Keeps the Kafka clients of a process from waiting for a broker that does not answer.

A broker that hangs still accepts connections. aiokafka asks any broker for metadata and
coordinators, waits each time as long as for any request, asks for no new metadata after that, and
opens no other connection while it waits for one. So each client would find new leaders
and coordinators only after several timeouts in a row. And a client that last saw two of three
brokers away never asks again at the addresses that it was given.
"""

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka.client import ConnectionGroup
from aiokafka.errors import KafkaError, RequestTimedOutError

from billing_stream.kafka.answering_broker import answering, connect

PROBE_SECONDS = 1.0
# One that has let a request wait for so long is not asked for metadata or coordinators.
SLOW_SECONDS = 2.0
# So that whoever tries again at once does not do so thousands of times.
PAUSE_SECONDS = 0.1


class SilentBrokers:
    """Brokers that let a request time out, known to all clients that avoid them here.

    A request to one fails at once with NodeNotReadyError, until a new connection to it answers.
    `options` are those of the clients, with every address that was given: a client starts from
    one that answers. For the clients of one event loop.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        # Node id -> when to try a connection.
        self._away: dict[int, float] = {}
        self._probes: set[asyncio.Task[None]] = set()
        # The address that answered last, and when: clients that start together share it.
        self._answered: tuple[float, Sequence[str]] | None = None
        self._asking = asyncio.Lock()

    def avoided_by(self, client: Any) -> None:
        """Have this AIOKafkaClient avoid them."""
        get_conn, send, update = client._get_conn, client.send, client._metadata_update
        bootstrap = client.bootstrap

        def note(node_id: int) -> None:
            self._away[node_id] = time.monotonic() + PROBE_SECONDS
            # Others lead its partitions soon, and aiokafka does not ask for that after a timeout.
            client.force_metadata_update()

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
            began = time.monotonic()
            conn = await get_conn(node_id, group=group or ConnectionGroup.DEFAULT)
            if conn is None and time.monotonic() - began > SLOW_SECONDS:
                note(node_id)
            return conn

        async def send_to(node_id: int, request: Any, **options: Any) -> Any:
            try:
                return await send(node_id, request, **options)
            except RequestTimedOutError:
                note(node_id)
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
                found: Sequence[str] = (await answering(self._options))["bootstrap_servers"]
                self._answered = time.monotonic(), found
            return self._answered[1]

    def _is_away(self, node_id: int, client: Any) -> bool:
        if node_id not in self._away:
            return False
        broker = client.cluster.broker_metadata(node_id)
        if broker is not None and self._away[node_id] < time.monotonic():
            self._away[node_id] = float("inf")
            probe = asyncio.create_task(self._probe(node_id, f"{broker.host}:{broker.port}"))
            self._probes.add(probe)
            probe.add_done_callback(self._probes.discard)
        return True

    async def _probe(self, node_id: int, server: str) -> None:
        try:
            (await connect(server, self._options)).close()
        except (KafkaError, OSError, TimeoutError):
            self._away[node_id] = time.monotonic() + PROBE_SECONDS
        else:
            self._away.pop(node_id, None)
