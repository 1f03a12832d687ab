"""Kafka requests as a proxy sees them: which request, and of whose transaction."""

import asyncio
import struct
from dataclasses import dataclass
from enum import IntEnum

from chaos.wire import Reader

_LENGTH = struct.Struct(">i")
NO_PRODUCER = (-1, -1)


class Api(IntEnum):
    """The requests that this proxy looks into."""

    PRODUCE = 0
    METADATA = 3
    FIND_COORDINATOR = 10
    INIT_PRODUCER_ID = 22
    ADD_PARTITIONS = 24
    END_TXN = 26


# From this version on, a request has tagged fields and compact strings.
_FLEXIBLE_FROM = {
    Api.PRODUCE: 9,
    Api.INIT_PRODUCER_ID: 2,
    Api.ADD_PARTITIONS: 3,
    Api.END_TXN: 3,
}
# From this version on, AddPartitionsToTxn has many transactions in it; only brokers send it.
_ADD_MANY_FROM = 4


@dataclass(frozen=True)
class Request:
    """The beginning of a request. `producer` is (id, epoch), where the request carries it."""

    api: int
    version: int
    correlation_id: int
    client_id: str = ""
    transactional_id: str = ""
    producer: tuple[int, int] = NO_PRODUCER

    @property
    def text(self) -> str:
        """Its name and version, as `EndTxn v0`."""
        return f"{NAMES[Api(self.api)]} v{self.version}"


NAMES = {
    Api.PRODUCE: "Produce",
    Api.METADATA: "Metadata",
    Api.FIND_COORDINATOR: "FindCoordinator",
    Api.INIT_PRODUCER_ID: "InitProducerId",
    Api.ADD_PARTITIONS: "AddPartitionsToTxn",
    Api.END_TXN: "EndTxn",
}


async def read_frame(reader: asyncio.StreamReader) -> bytes | None:
    """One request or response without its length; None when the connection has ended."""
    try:
        [length] = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        return await reader.readexactly(length)
    except (asyncio.IncompleteReadError, OSError):
        return None


def framed(frame: bytes) -> bytes:
    """A request or response with its length before it."""
    return _LENGTH.pack(len(frame)) + frame


def parse_request(frame: bytes) -> Request:
    """Parse the header, and of transactional requests the ids."""
    reader = Reader(frame)
    api, version = reader.number("h"), reader.number("h")
    correlation_id, client_id = reader.number("i"), reader.string()
    if api not in _FLEXIBLE_FROM or (api == Api.ADD_PARTITIONS and version >= _ADD_MANY_FROM):
        return Request(api, version, correlation_id, client_id)
    flexible = version >= _FLEXIBLE_FROM[Api(api)]
    if flexible:
        reader.tags()
    transactional_id = reader.text() if flexible else reader.string()
    producer = NO_PRODUCER
    if api == Api.INIT_PRODUCER_ID:
        reader.number("i")
    if api in (Api.ADD_PARTITIONS, Api.END_TXN) or (api == Api.INIT_PRODUCER_ID and version >= 3):
        producer = (reader.number("q"), reader.number("h"))
    return Request(api, version, correlation_id, client_id, transactional_id, producer)


def error_code(request: Request, response: bytes) -> int | None:
    """The error code in the response to EndTxn or InitProducerId; None for other requests."""
    if request.api not in (Api.END_TXN, Api.INIT_PRODUCER_ID):
        return None
    reader = Reader(response)
    reader.number("i")
    if request.version >= _FLEXIBLE_FROM[Api(request.api)]:
        reader.tags()
    reader.number("i")
    return reader.number("h")
