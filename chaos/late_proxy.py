"""A request that arrives late: a proxy holds back one and delivers it in a later transaction.

The connection of the held request is reset, so that the client repeats the request on another.
The old one, as it was sent, is delivered to the same broker while a later transaction of the
same transactional id is open: after its first produce request was answered and before its second
goes on (or, if there is only one, before the transaction ends).
"""

import asyncio
import struct
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from chaos.frames import Api, Request, error_code, framed, parse_request, read_frame
from chaos.proxy import Connection, Proxy

# Of a broker on this machine: for an answer that must come before the next request goes on.
ANSWER_SECONDS_MAX = 10.0
LOCALHOST = b"127.0.0.1"
# Version 2 of transactions (KIP-890) comes with these versions of requests.
_SECOND_VERSION_FROM = {Api.PRODUCE: 12, Api.END_TXN: 5}
_WITH_ADDRESSES = (Api.METADATA, Api.FIND_COORDINATOR)


@dataclass
class _Producer:
    """A transactional id: how many transactions with records were begun, and how far it is."""

    begun: int = 0
    open: bool = False
    produced: int = 0
    # Of those begun, how many have been asked to end by a request that went on.
    ended: int = 0
    # Set once the first produce request of the transaction has an answer.
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def see(self, request: Request) -> None:
        """Count a request that is about to go on."""
        if request.api == Api.END_TXN:
            self.open = False
        elif request.api == Api.PRODUCE:
            if not self.open:
                self.open = True
                self.begun += 1
                self.produced = 0
                self.answered = asyncio.Event()
            self.produced += 1


@dataclass
class Held:
    """The request that was held back, and what became of it."""

    request: Request
    frame: bytes
    upstream: int
    # The number of the transaction of this id in which it is to be delivered.
    due: int
    delivered: bool = False
    # Produce requests of that transaction that had gone on before it was delivered.
    after_produced: int = 0
    # The last error code, where the answer to such a request has one.
    error: int | None = None
    # The request before which it was delivered.
    before: Request | None = None

    @property
    def spoken(self) -> int:
        """The version of transactions that the producer spoke when it was delivered; 0: none."""
        if self.before is None:
            return 0
        return 1 + (self.before.version >= _SECOND_VERSION_FROM[Api(self.before.api)])


class Late:
    """The fault, common to the proxies of all brokers. Armed once for each request to be held."""

    def __init__(self) -> None:
        self.held: Held | None = None
        # Transactions whose end went on, of all ids.
        self.ended = 0
        self._armed: tuple[Api, int] | None = None
        self._producers: defaultdict[str, _Producer] = defaultdict(_Producer)
        self._changed = asyncio.Event()

    def arm(self, api: Api, after: int) -> None:
        """Hold the next such request, and deliver it `after` transactions later."""
        self.held, self._armed = None, (api, after)

    @property
    def is_next(self) -> bool:
        """Whether the held request is to be delivered in the next transaction of its id."""
        held = self.held
        if held is None or held.delivered:
            return False
        return self._producers[held.request.transactional_id].begun + 1 >= held.due

    async def wait_ended(self, count: int, seconds: float) -> bool:
        """Wait until so many transactions have ended; whether they have, in time."""
        try:
            async with asyncio.timeout(seconds):
                while self.ended < count:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def passes(self, request: Request, frame: bytes, upstream: int) -> bool:
        """Whether a request may go on; delivers the held one before it, when that is due."""
        if not request.transactional_id:
            return True
        producer = self._producers[request.transactional_id]
        async with producer.turn:
            await self._maybe_deliver(producer, request)
            producer.see(request)
            if self._armed is not None and self._armed[0] == request.api:
                _, after = self._armed
                self._armed = None
                # The transaction of an AddPartitionsToTxn has no records yet.
                present = producer.begun + (request.api == Api.ADD_PARTITIONS)
                self.held = Held(request, frame, upstream, present + after)
                return False
            if request.api == Api.END_TXN and producer.ended < producer.begun:
                producer.ended = producer.begun
                self.ended += 1
                self._changed.set()
            return True

    def answered(self, request: Request) -> None:
        """A produce request has an answer."""
        self._producers[request.transactional_id].answered.set()

    async def _maybe_deliver(self, producer: _Producer, request: Request) -> None:
        held = self.held
        if (
            held is None
            or held.delivered
            or held.request.transactional_id != request.transactional_id
        ):
            return
        due = producer.open and producer.begun >= held.due
        if not due or request.api not in (Api.PRODUCE, Api.END_TXN):
            return
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                await producer.answered.wait()
                held.error = await _deliver(held)
        except (TimeoutError, OSError):
            # Not delivered, which makes the try invalid.
            self.held = None
            return
        held.after_produced, held.before = producer.produced, request
        held.delivered = True


async def _deliver(held: Held) -> int | None:
    """Send the held request on a connection of its own; the error code of its answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", held.upstream)
    try:
        writer.write(framed(held.frame))
        response = await read_frame(reader)
        return error_code(held.request, response) if response is not None else None
    finally:
        writer.close()


class LateProxy(Proxy):
    """A proxy of one broker that reads Kafka's requests.

    `ports` maps the port of each broker of the cluster to that of its proxy: in what brokers
    say of addresses, the former is replaced by the latter, so that clients come by here.
    """

    def __init__(self, port: int, upstream: int, ports: dict[int, int], late: Late) -> None:
        super().__init__(port, upstream)
        self._late = late
        self._addresses = [
            (LOCALHOST + struct.pack(">i", real), LOCALHOST + struct.pack(">i", proxied))
            for real, proxied in ports.items()
        ]

    async def _relay(
        self, connection: Connection, requests: asyncio.StreamReader, answers: asyncio.StreamReader
    ) -> None:
        sent: dict[int, Request] = {}
        ways = [
            asyncio.create_task(self._pass_requests(connection, requests, sent)),
            asyncio.create_task(self._pass_answers(connection, answers, sent)),
        ]
        try:
            # The end of one way ends the connection.
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _pass_requests(
        self, connection: Connection, reader: asyncio.StreamReader, sent: dict[int, Request]
    ) -> None:
        while (frame := await read_frame(reader)) is not None:
            request = parse_request(frame)
            if not await self._late.passes(request, frame, self.upstream):
                self.affected += 1
                return
            sent[request.correlation_id] = request
            await self._write(connection.server, framed(frame))

    async def _pass_answers(
        self, connection: Connection, reader: asyncio.StreamReader, sent: dict[int, Request]
    ) -> None:
        while (frame := await read_frame(reader)) is not None:
            [correlation_id] = struct.unpack_from(">i", frame)
            request = sent.pop(correlation_id, None)
            if request is not None and request.api == Api.PRODUCE and request.transactional_id:
                self._late.answered(request)
            if request is not None and request.api in _WITH_ADDRESSES:
                for real, proxied in self._addresses:
                    frame = frame.replace(real, proxied)
            await self._write(connection.client, framed(frame))


def proxies(upstreams: Sequence[int], ports: Sequence[int], late: Late) -> list[LateProxy]:
    """A proxy on each of `ports` before the broker on the port of `upstreams` at the same place."""
    both = dict(zip(upstreams, ports, strict=True))
    return [LateProxy(proxied, real, both, late) for real, proxied in both.items()]
