"""The brokers of a run: embedded Kafka with one advertised listener, and proxy, per worker.

A Kafka client goes where the brokers say that they are. So each worker has a listener of its
own at each broker, and what the broker advertises there is the port of that worker's proxy.
"""

import asyncio
import contextlib
import os
import re
import signal
import time
from pathlib import Path

from billing_stream.dev.brokers import Brokers as Embedded
from billing_stream.dev.kafka import Jvm, Kafka
from chaos.ports import new_port

UP_SECONDS_MAX = 120.0
# What `dev up` changes for convenience, as Kafka has it.
DEFAULTS = """\
group.initial.rebalance.delay.ms=3000
broker.session.timeout.ms=9000
broker.heartbeat.interval.ms=2000
"""
_UNMARKED = re.compile(
    r"find leader endpoint for partitions \w+\((.*)\) while trying to send transaction markers "
    r"for ([^,]+), these partitions are likely deleted"
)


class Broker:
    """Starts, stops, freezes and kills one without holding up the event loop."""

    def __init__(self, number: int, kafka: Kafka) -> None:
        self.number = number
        self._kafka = kafka
        self._frozen = False
        self.up = False

    @property
    def id(self) -> int:
        """Kafka's id of it."""
        return self.number + 1

    @property
    def direct(self) -> str:
        """host:port without a proxy, for everyone but the workers."""
        return self._kafka.bootstrap_servers

    @property
    def listeners(self) -> list[tuple[int, int]]:
        """(port, port of the proxy) for each worker."""
        return self._kafka.listeners

    async def back(self) -> None:
        """Start it, and wait only until it listens again."""
        await asyncio.to_thread(self._kafka.launch)
        end = time.monotonic() + UP_SECONDS_MAX
        while not await self._listens():
            if time.monotonic() > end:
                raise RuntimeError(f"the broker did not come back:\n{self._kafka.server.tail()}")
            await asyncio.sleep(0.05)
        self.up = True

    async def kill(self) -> None:
        """SIGKILL."""
        self.up = False
        await asyncio.to_thread(self._kafka.kill)

    async def stop(self) -> None:
        """A clean stop."""
        self.up = False
        await asyncio.to_thread(self._kafka.stop)

    def freeze(self) -> None:
        """SIGSTOP: its connections stay, and nothing comes."""
        self.up, self._frozen = False, True
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT, when it is frozen."""
        if self._frozen:
            self.up, self._frozen = True, False
            self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        process = self._kafka.server.process
        if process is not None and process.alive:
            os.killpg(process.pid, number)

    def unmarked(self, prefix: str) -> list[str]:
        """Committed transactions, of ids that begin so, that it did not end everywhere.

        That is from its own log. The last stable offset stands still there until the same
        transactional id ends another transaction there; and were that one aborted, so would
        this one be.
        """
        found = []
        with self._kafka.server.log.open(errors="replace") as log:
            for line in log:
                match = _UNMARKED.search(line)
                if match is not None and match[2].startswith(prefix):
                    found.append(f"{line[:23]} {match[2]}: {match[1]}")
        return found

    async def _listens(self) -> bool:
        with contextlib.suppress(OSError):
            for port in (self._kafka.port, *(port for port, _ in self.listeners)):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
            return True
        return False


class Brokers:
    """All of them, with the listeners of `workers` workers.

    One is as `dev up` has it. Several have Kafka's own defaults but for `session_ms`, the
    broker.session.timeout.ms, when it is given.
    """

    def __init__(
        self,
        folder: Path,
        workers: int,
        count: int = 1,
        *,
        session_ms: int | None = None,
        jvm: Jvm = "quick",
    ) -> None:
        properties = "" if count == 1 else DEFAULTS
        if session_ms:
            properties += f"broker.session.timeout.ms={session_ms}\n"
        self._embedded = Embedded(
            folder / "kafka",
            folder,
            [(new_port(), new_port()) for _ in range(count)],
            properties=properties,
            jvm=jvm,
            listeners=[[(new_port(), new_port()) for _ in range(workers)] for _ in range(count)],
        )
        self.each = [Broker(number, kafka) for number, kafka in enumerate(self._embedded.nodes)]

    @property
    def direct(self) -> str:
        """host:port of each without a proxy, with commas between."""
        return self._embedded.bootstrap_servers

    @property
    def up(self) -> bool:
        """Whether all are."""
        return all(broker.up for broker in self.each)

    def answering(self) -> list[str]:
        """host:port without a proxy of those that are up."""
        return [broker.direct for broker in self.each if broker.up]

    async def start(self) -> None:
        """Start them, and wait until a transaction went through."""
        await asyncio.to_thread(self._embedded.start)
        for broker in self.each:
            broker.up = True

    async def stop(self) -> None:
        """A clean stop of all."""
        for broker in self.each:
            broker.resume()
            broker.up = False
        await asyncio.to_thread(self._embedded.stop)

    def unmarked(self, prefix: str) -> list[str]:
        """As each broker's."""
        return [line for broker in self.each for line in broker.unmarked(prefix)]
