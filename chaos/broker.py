"""The broker of a run: embedded Kafka with one advertised listener, and proxy, per worker.

A Kafka client goes where the broker says that it is. So each worker has a listener of its
own, and what the broker advertises there is the port of that worker's proxy.
"""

import asyncio
import contextlib
import re
import time
from pathlib import Path

from billing_stream.dev.kafka import Jvm, Kafka
from chaos.ports import new_port

UP_SECONDS_MAX = 120.0
_UNMARKED = re.compile(
    r"find leader endpoint for partitions \w+\((.*)\) while trying to send transaction markers "
    r"for ([^,]+), these partitions are likely deleted"
)


class ListeningKafka(Kafka):
    """Kafka that also listens on the first of each (port, advertised port)."""

    def __init__(
        self,
        folder: Path,
        log: Path,
        ports: tuple[int, int],
        extra: list[tuple[int, int]],
        jvm: Jvm,
    ) -> None:
        super().__init__(folder, log, *ports, jvm=jvm)
        self._extra = extra

    def _prepare(self) -> None:
        super()._prepare()
        path = Path(self._config)
        lines = [self._with_extra(line) for line in path.read_text().splitlines()]
        lines.append("inter.broker.listener.name=PLAINTEXT")
        path.write_text("\n".join(lines) + "\n")

    def _with_extra(self, line: str) -> str:
        name = line.split("=")[0]
        if name == "listeners":
            ends = [f"W{n}://127.0.0.1:{port}" for n, (port, _) in enumerate(self._extra)]
        elif name == "advertised.listeners":
            ends = [f"W{n}://127.0.0.1:{port}" for n, (_, port) in enumerate(self._extra)]
        elif name == "listener.security.protocol.map":
            ends = [f"W{n}:PLAINTEXT" for n in range(len(self._extra))]
        else:
            return line
        return ",".join([line, *ends])


class Broker:
    """Starts, stops and kills it without holding up the event loop."""

    def __init__(self, folder: Path, workers: int, jvm: Jvm = "quick") -> None:
        self.listeners = [(new_port(), new_port()) for _ in range(workers)]
        ports = (new_port(), new_port())
        log = folder / "kafka.log"
        self._kafka = ListeningKafka(folder / "kafka", log, ports, self.listeners, jvm)
        self.up = False

    @property
    def direct(self) -> str:
        """host:port without a proxy, for everyone but the workers."""
        return self._kafka.bootstrap_servers

    async def start(self) -> None:
        """Start it, and wait until a transaction went through."""
        await asyncio.to_thread(self._kafka.start)
        self.up = True

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

    def unmarked(self, prefix: str) -> list[str]:
        """Committed transactions, of ids that begin so, that the broker did not end everywhere.

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
