"""The brokers: which can be reached from here, and whether every partition has its replicas."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping

from aiokafka.errors import KafkaError

from billing_stream.config.settings import Settings
from billing_stream.kafka.connection_diagnostics import diagnose_connections
from billing_stream.kafka.replicas import Seen, counted, look, needed_in_sync, unwritable
from billing_stream.ops.doctor.finding import Finding, fail, ok, warn


class Brokers:
    """The checks of the brokers; `seen` is what the first of them saw."""

    def __init__(self) -> None:
        self.seen = Seen()

    async def check(self, settings: Settings) -> AsyncIterator[Finding]:
        """Whether they can be reached, and are as many as there must be replicas."""
        # At once: each may take as long as there is for both.
        trouble = asyncio.create_task(diagnose_connections(settings))
        try:
            self.seen = await look(settings)
        except (KafkaError, OSError):
            lines = await trouble
            if len(lines) < len(settings.bootstrap_servers):
                raise
            yield fail(
                "brokers",
                f"none answers: {_together(lines)}",
                "start them, or fix KAFKA_BOOTSTRAP_SERVERS and the KAFKA_ settings of security",
            )
        else:
            yield of_brokers(self.seen, settings.replication_factor)
        finally:
            await trouble

    async def check_replicas(self, settings: Settings) -> AsyncIterator[Finding]:
        """Whether each partition has a leader, and its replicas are in sync."""
        for finding in of_partitions(self.seen, await needed_in_sync(settings, self.seen)):
            yield finding


def of_brokers(seen: Seen, replication: int) -> Finding:
    """How many can be reached, and which cannot."""
    check, there = "brokers", ", ".join(seen.brokers[id] for id in sorted(seen.reached))
    if seen.away or seen.absent:
        message = f"{len(seen.reached)} of {seen.count} answer ({there})"
        if seen.away:
            message += f"; away: {_listed(seen.away)}"
        if seen.absent:
            message += f"; not in the cluster: broker {', '.join(map(str, seen.absent))}"
        return fail(
            check,
            message,
            "bring them back before another broker is restarted: `billing-stream docs restore`",
        )
    message = f"{len(seen.brokers)} at {there}"
    if len(seen.brokers) < replication:
        return fail(
            check,
            f"{message}, fewer than the {replication} replicas of each topic",
            "start the other brokers; if there are none, BILLING_REPLICATION_FACTOR is wrong",
        )
    return ok(check, message)


def of_partitions(seen: Seen, needed: Mapping[str, int]) -> Iterator[Finding]:
    """Problems of leaders and replicas. `needed`: in-sync replicas to write, by topic."""
    check, count = "replicas", len(seen.partitions)
    stopped = list(unwritable(seen, needed))
    behind = [p for p in seen.partitions if seen.live(p) < p.replicas]
    for message in stopped:
        yield fail(
            check,
            f"{message}: nothing can be written there",
            "bring the brokers back: workers wait, and continue by themselves",
        )
    if behind and not stopped:
        yield warn(
            check,
            f"{counted(behind)} of {count} lack a replica in sync",
            "ask again before another broker is restarted: with one more away nothing could be "
            "written",
        )
    if not behind and not stopped:
        yield ok(check, f"all in sync, of {count} partitions" if count else "no topics yet")


def _together(lines: Iterable[str]) -> str:
    """Servers that do not answer for the same reason, together. A line is `host:port: why`."""
    servers: dict[str, list[str]] = {}
    for line in lines:
        server, _, why = line.partition(": ")
        servers.setdefault(why, []).append(server)
    return "; ".join(f"{', '.join(some)}: {why}" for why, some in servers.items())


def _listed(away: Mapping[str, str]) -> str:
    return "; ".join(f"{server}: {why}" for server, why in sorted(away.items()))
