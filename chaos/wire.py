"""Requests that aiokafka does not know.

DescribeProducers and ListTransactions tell whose transaction a partition waits for, which is all
there is to know about a last stable offset that does not move. DescribeQuorum tells which
controller is the active one; the others move replicas and leaders.
"""

import asyncio
import struct
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ELECT_LEADERS = 43
ALTER_REASSIGNMENTS = 45
DESCRIBE_QUORUM = 55
DESCRIBE_PRODUCERS = 61
LIST_TRANSACTIONS = 66
SECONDS_MAX = 10.0
METADATA = "__cluster_metadata"
# What is asked for is so already: the preferred replica leads.
ELECTION_NOT_NEEDED = 84


@dataclass(frozen=True)
class Producer:
    """A producer as a partition knows it. `start` is where its open transaction begins, or -1."""

    id: int
    epoch: int
    last_sequence: int
    last_ms: int
    coordinator_epoch: int
    start: int


@dataclass(frozen=True)
class Transaction:
    """A transactional id as its coordinator knows it."""

    transactional_id: str
    producer_id: int
    state: str


class Reader:
    """Reads the types of the flexible versions of Kafka's protocol."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self, form: str) -> int:
        """A number of `struct`'s form."""
        [value] = struct.unpack_from(">" + form, self._data, self._at)
        self._at += struct.calcsize(form)
        return int(value)

    def varint(self) -> int:
        """An unsigned varint."""
        value = shift = 0
        while True:
            byte = self._data[self._at]
            self._at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def text(self) -> str:
        """A compact string; empty for null."""
        length = max(0, self.varint() - 1)
        self._at += length
        return self._data[self._at - length : self._at].decode()

    def string(self) -> str:
        """A string of the versions before the flexible ones; empty for null."""
        length = max(0, self.number("h"))
        self._at += length
        return self._data[self._at - length : self._at].decode()

    def count(self) -> int:
        """The length of a compact array."""
        return max(0, self.varint() - 1)

    def tags(self) -> None:
        """Tagged fields, which are skipped."""
        for _ in range(self.varint()):
            self.varint()
            length = self.varint()
            self._at += length


def varint(value: int) -> bytes:
    """An unsigned varint."""
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def compact(value: str) -> bytes:
    """A compact string."""
    raw = value.encode()
    return varint(len(raw) + 1) + raw


async def describe_producers(kafka: str, topic: str, partition: int) -> list[Producer]:
    """The producers of a partition. Raises OSError, also when the broker refuses."""
    body = varint(2) + compact(topic) + varint(2) + struct.pack(">i", partition) + b"\0\0\0"
    reader = await _ask(kafka, DESCRIBE_PRODUCERS, body)
    found: list[Producer] = []
    for _ in range(reader.count()):
        reader.text()
        for _ in range(reader.count()):
            reader.number("i")
            error, message = reader.number("h"), reader.text()
            _accept(error, message)
            for _ in range(reader.count()):
                found.append(Producer(*(reader.number(form) for form in "qiiqiq")))
                reader.tags()
            reader.tags()
        reader.tags()
    return found


async def list_transactions(kafka: str) -> list[Transaction]:
    """All transactional ids. Raises OSError, also when the broker refuses."""
    reader = await _ask(kafka, LIST_TRANSACTIONS, varint(1) + varint(1) + b"\0")
    _accept(reader.number("h"))
    for _ in range(reader.count()):
        reader.text()
    found = []
    for _ in range(reader.count()):
        found.append(Transaction(reader.text(), reader.number("q"), reader.text()))
        reader.tags()
    return found


async def quorum_leader(kafka: str) -> int:
    """The id of the active controller. Raises OSError, also when there is none."""
    partition = varint(2) + struct.pack(">i", 0) + b"\0"
    body = varint(2) + compact(METADATA) + partition + b"\0\0"
    reader = await _ask(kafka, DESCRIBE_QUORUM, body, throttled=False)
    _accept(reader.number("h"))
    reader.count()
    reader.text()
    reader.count()
    reader.number("i")
    _accept(reader.number("h"))
    return reader.number("i")


async def reassign(kafka: str, moves: Mapping[tuple[str, int], Sequence[int]]) -> None:
    """Have partitions moved to these replicas, by the ids of brokers. Raises OSError."""
    by_topic: dict[str, list[bytes]] = defaultdict(list)
    for (topic, partition), replicas in moves.items():
        ids = b"".join(struct.pack(">i", one) for one in replicas)
        moved = struct.pack(">i", partition) + varint(len(replicas) + 1) + ids + b"\0"
        by_topic[topic].append(moved)
    topics = b"".join(
        compact(topic) + varint(len(moved) + 1) + b"".join(moved) + b"\0"
        for topic, moved in by_topic.items()
    )
    body = _timeout() + varint(len(by_topic) + 1) + topics + b"\0"
    reader = await _ask(kafka, ALTER_REASSIGNMENTS, body)
    _accept(reader.number("h"), reader.text())
    for _ in range(reader.count()):
        reader.text()
        for _ in range(reader.count()):
            reader.number("i")
            _accept(reader.number("h"), reader.text())
            reader.tags()
        reader.tags()


async def elect_preferred(kafka: str) -> None:
    """Have the first replica of every partition lead it. Raises OSError."""
    # 0: the preferred ones; no list of partitions: all.
    reader = await _ask(kafka, ELECT_LEADERS, b"\0" + b"\0" + _timeout() + b"\0", version=2)
    _accept(reader.number("h"))
    for _ in range(reader.count()):
        reader.text()
        for _ in range(reader.count()):
            reader.number("i")
            error, message = reader.number("h"), reader.text()
            _accept(0 if error == ELECTION_NOT_NEEDED else error, message)
            reader.tags()
        reader.tags()


def _timeout() -> bytes:
    return struct.pack(">i", int(SECONDS_MAX * 1000))


def _accept(error: int, message: str = "") -> None:
    if error:
        raise OSError(f"the broker answers with error {error} {message}")


async def _ask(
    kafka: str, api: int, body: bytes, *, version: int = 0, throttled: bool = True
) -> Reader:
    """One request on a connection of its own; what follows the throttle time, if there is one."""
    host, _, port = kafka.rpartition(":")
    async with asyncio.timeout(SECONDS_MAX):
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            client = b"chaos"
            header = struct.pack(">hhih", api, version, 1, len(client)) + client + b"\0"
            request = header + body
            writer.write(struct.pack(">i", len(request)) + request)
            [length] = struct.unpack(">i", await reader.readexactly(4))
            answer = Reader(await reader.readexactly(length))
        finally:
            writer.close()
    answer.number("i")
    answer.tags()
    if throttled:
        answer.number("i")
    return answer
