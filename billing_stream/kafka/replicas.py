"""Where partitions are: which brokers can be reached, which replicas are in sync with them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aiokafka.errors import KafkaError
from aiokafka.protocol.metadata import MetadataRequest
from msgspec import Struct, field

from billing_stream.config.settings import Settings
from billing_stream.kafka.answering_broker import answering, connect
from billing_stream.kafka.client_options import client_options
from billing_stream.kafka.connection_diagnostics import troubles
from billing_stream.kafka.topic_admin import in_sync_needed
from billing_stream.records.topics import Topics

# Of offsets and of transactions: without these, nothing is committed.
KAFKAS_OWN = ("__consumer_offsets", "__transaction_state")
NAMED_MAX = 3


class Partition(Struct, frozen=True):
    """Where a partition is: ids of brokers; -1 for no leader."""

    topic: str
    number: int
    leader: int
    replicas: frozenset[int]
    in_sync: frozenset[int]

    @property
    def name(self) -> str:
        """As topic[number]."""
        return f"{self.topic}[{self.number}]"


class Seen(Struct):
    """The cluster as a broker describes it, and the result of connecting to each one.

    `brokers` are host:port by id, `away` why a host:port cannot be reached.
    """

    brokers: dict[int, str] = field(default_factory=dict)
    away: dict[str, str] = field(default_factory=dict)
    partitions: list[Partition] = field(default_factory=list)

    @property
    def reached(self) -> frozenset[int]:
        """The ids of the brokers that can be reached."""
        return frozenset(id for id, server in self.brokers.items() if server not in self.away)

    def live(self, partition: Partition) -> frozenset[int]:
        """The replicas that are in sync and can be reached.

        Without a quorum the last broker still reports the earlier state.
        """
        return partition.in_sync & self.reached

    @property
    def absent(self) -> list[int]:
        """The ids of brokers that have replicas and are not in the cluster now."""
        return sorted({id for p in self.partitions for id in p.replicas} - self.brokers.keys())

    @property
    def most(self) -> bool:
        """Whether more than half of the brokers can be reached: then there is a quorum."""
        return 2 * len(self.reached) > self.count

    @property
    def count(self) -> int:
        """How many brokers there are, away or not, as far as known."""
        # One that has left the cluster is known by its replicas, or by the settings, or by both.
        gone = max(len(self.absent), len(self.away.keys() - set(self.brokers.values())))
        return len(self.brokers) + gone


async def look(settings: Settings) -> Seen:
    """What there is now. Raises KafkaError or OSError when no broker answers within 5 seconds."""
    options = await answering(client_options(settings))
    seen = await _ask(options["bootstrap_servers"][0], options, settings)
    told = await troubles(settings, {*settings.bootstrap_servers, *seen.brokers.values()})
    seen.away = {server: why for server, why in told.items() if why}
    return seen


async def needed_in_sync(settings: Settings, seen: Seen) -> dict[str, int]:
    """How many replicas must be in sync so that a topic can be written."""
    names = sorted({partition.topic for partition in seen.partitions})
    try:
        return await in_sync_needed(client_options(settings), names)
    except (KafkaError, OSError):
        # Brokers that say where partitions are may have nobody to ask for settings, or this
        # user may not: then as `topics create` makes them.
        return dict.fromkeys(names, 2 if settings.replication_factor >= 3 else 1)


def unwritable(seen: Seen, needed: Mapping[str, int]) -> Iterator[str]:
    """What cannot be written now, a line each; nothing when all can."""
    leaderless = [p for p in seen.partitions if p.leader not in seen.reached]
    few = [p for p in seen.partitions if len(seen.live(p)) < needed.get(p.topic, 1)]
    if leaderless:
        yield f"{counted(leaderless)} without a leader that can be reached"
    if few:
        yield f"{counted(few)} with fewer replicas in sync than min.insync.replicas"


async def ask_unwritable(settings: Settings) -> list[str]:
    """As `unwritable`, asked now. Raises KafkaError or OSError when no broker answers."""
    seen = await look(settings)
    return list(unwritable(seen, await needed_in_sync(settings, seen)))


def counted(partitions: Sequence[Partition]) -> str:
    """How many they are, and the first of them."""
    names = [partition.name for partition in partitions[:NAMED_MAX]]
    more = ", ..." if len(partitions) > NAMED_MAX else ""
    what = "partition" if len(partitions) == 1 else "partitions"
    return f"{len(partitions)} {what} ({', '.join(names)}{more})"


async def _ask(server: str, options: Mapping[str, Any], settings: Settings) -> Seen:
    """What this broker says of the cluster. Raises KafkaError or OSError."""
    ours = {topic.name for topic in Topics(settings.app_id, settings.topic_prefix).all()}
    connection = await connect(server, options)
    try:
        answer: Any = await connection.send(MetadataRequest())
    finally:
        connection.close()
    found = answer.to_object()
    return Seen(
        {one["node_id"]: f"{one['host']}:{one['port']}" for one in found["brokers"]},
        {},
        [
            Partition(
                topic["topic"],
                part["partition"],
                part["leader"],
                frozenset(part["replicas"]),
                frozenset(part["isr"]),
            )
            for topic in found["topics"]
            if topic["topic"] in ours or topic["topic"] in KAFKAS_OWN
            for part in topic["partitions"]
        ],
    )
