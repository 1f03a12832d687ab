"""The brokers: which can be reached from here, and whether every partition has its replicas."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from aiokafka.errors import KafkaError
from aiokafka.protocol.metadata import MetadataRequest
from msgspec import Struct, field

from billing_stream.doctor.finding import Finding, fail, ok, warn
from billing_stream.kafka_options import client_options
from billing_stream.kafka_trouble import answering, connect, troubles
from billing_stream.settings import Settings
from billing_stream.topic_admin import in_sync_needed
from billing_stream.topics import Topics

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
    """What a broker says of the cluster, and what came of connecting to each.

    `brokers` are host:port by id, `away` why a host:port cannot be reached.
    """

    brokers: dict[int, str] = field(default_factory=dict)
    away: dict[str, str] = field(default_factory=dict)
    partitions: list[Partition] = field(default_factory=list)

    @property
    def reached(self) -> frozenset[int]:
        """The ids of the brokers that can be reached."""
        return frozenset(id for id, server in self.brokers.items() if server not in self.away)

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
        """How many brokers there are, away or not, as far as anything here tells."""
        # One that has left the cluster is known by its replicas, or by the settings, or by both.
        gone = max(len(self.absent), len(self.away.keys() - set(self.brokers.values())))
        return len(self.brokers) + gone


class Brokers:
    """The checks of the brokers; `seen` is what the first of them saw."""

    def __init__(self) -> None:
        self.seen = Seen()

    async def check(self, settings: Settings) -> AsyncIterator[Finding]:
        """Whether they can be reached, and are as many as there must be replicas."""
        given = asyncio.create_task(troubles(settings, settings.bootstrap_servers))
        try:
            options = await answering(client_options(settings))
            self.seen = await _ask(options["bootstrap_servers"][0], options, settings)
        except (KafkaError, OSError):
            away = {server: why for server, why in (await given).items() if why}
            if len(away) < len(settings.bootstrap_servers):
                raise
            yield fail(
                "brokers",
                f"none answers: {_listed(away)}",
                "start them, or mend KAFKA_BOOTSTRAP_SERVERS and the KAFKA_ settings of security",
            )
            return
        others = set(self.seen.brokers.values()) - set(settings.bootstrap_servers)
        told = {**await given, **await troubles(settings, others)}
        self.seen.away = {server: why for server, why in told.items() if why}
        yield of_brokers(self.seen, settings.replication_factor)

    async def check_replicas(self, settings: Settings) -> AsyncIterator[Finding]:
        """Whether each partition has a leader, and its replicas are in sync."""
        names = sorted({partition.topic for partition in self.seen.partitions})
        try:
            needed = await in_sync_needed(client_options(settings), names)
        except (KafkaError, OSError):
            # Brokers that say where partitions are may have nobody to ask for settings.
            needed = dict.fromkeys(names, 2 if settings.replication_factor >= 3 else 1)
        for finding in of_partitions(self.seen, needed):
            yield finding


def of_brokers(seen: Seen, replication: int) -> Finding:
    """How many can be reached, and which cannot."""
    check, there = "brokers", ", ".join(seen.brokers[id] for id in sorted(seen.reached))
    if seen.away or seen.absent:
        said = f"{len(seen.reached)} of {seen.count} answer ({there})"
        if seen.away:
            said += f"; away: {_listed(seen.away)}"
        if seen.absent:
            said += f"; not in the cluster: broker {', '.join(map(str, seen.absent))}"
        return fail(
            check, said, "bring them back before another broker is restarted: docs/restore.md"
        )
    said = f"{len(seen.brokers)} at {there}"
    if len(seen.brokers) < replication:
        return fail(
            check,
            f"{said}, fewer than the {replication} replicas of each topic",
            "start the other brokers; if there are none, BILLING_REPLICATION_FACTOR is wrong",
        )
    return ok(check, said)


def of_partitions(seen: Seen, needed: Mapping[str, int]) -> Iterator[Finding]:
    """What is wrong with leaders and replicas. `needed`: in-sync replicas to write, by topic."""
    check = "replicas"
    # Without a quorum brokers still say what was: a broker out of reach has nothing for us.
    live = {p.name: p.in_sync & seen.reached for p in seen.partitions}
    leaderless = [p for p in seen.partitions if p.leader not in seen.reached]
    few = [p for p in seen.partitions if len(live[p.name]) < needed.get(p.topic, 1)]
    behind = [p for p in seen.partitions if live[p.name] < p.replicas]
    if leaderless:
        yield fail(
            check,
            f"{_counted(leaderless)} without a leader that can be reached",
            "bring the brokers back: workers wait, and continue by themselves",
        )
    if few:
        yield fail(
            check,
            f"{_counted(few)} with fewer replicas in sync than min.insync.replicas: nothing can "
            "be written there",
            "bring the brokers back: workers wait, and continue by themselves",
        )
    if behind and not leaderless and not few:
        yield warn(
            check,
            f"{_counted(behind)} of {len(seen.partitions)} lack a replica in sync",
            "ask again before another broker is restarted; until none lacks one, a second failure "
            "stops all writing",
        )
    if not behind and not leaderless and not few:
        count = len(seen.partitions)
        yield ok(check, f"all in sync, of {count} partitions" if count else "no topics yet")


def _counted(partitions: Sequence[Partition]) -> str:
    names = [partition.name for partition in partitions[:NAMED_MAX]]
    more = ", ..." if len(partitions) > NAMED_MAX else ""
    what = "partition" if len(partitions) == 1 else "partitions"
    return f"{len(partitions)} {what} ({', '.join(names)}{more})"


def _listed(away: Mapping[str, str]) -> str:
    return "; ".join(f"{server}: {why}" for server, why in sorted(away.items()))


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
