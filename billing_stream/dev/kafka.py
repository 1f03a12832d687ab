"""A real Apache Kafka (KRaft) on this machine: one broker, alone or among several."""

import asyncio
import base64
import logging
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, for_code
from aiokafka.structs import TopicPartition

from billing_stream.dev.cache import DevError, step
from billing_stream.dev.provision import java, kafka_jars
from billing_stream.dev.run_apart import run_apart
from billing_stream.dev.server_process import Server

READY_SECONDS_MAX = 90.0
TRY_SECONDS_MAX = 20.0
READY_NAME = "billing-stream-ready"
FORMAT_SECONDS_MAX = 120.0

Jvm = Literal["quick", "steady"]
"""How the broker's JVM compiles. quick: half the processor time of the first minutes, for a
broker that lives shortly; steady: the compiler's full effort, for measurements."""
_QUICK = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")

_PROPERTIES = """\
process.roles=broker,controller
node.id={number}
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor={replication}
offsets.topic.num.partitions={internal}
transaction.state.log.replication.factor={replication}
transaction.state.log.min.isr={in_sync}
transaction.state.log.num.partitions={internal}
share.coordinator.state.topic.replication.factor={replication}
share.coordinator.state.topic.min.isr={in_sync}
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.cleaner.backoff.ms=2000
# When a session has ended the others take over, and a killed broker may come back: 9 s by default.
broker.session.timeout.ms=6000
broker.heartbeat.interval.ms=500
# The default, 128 MB, would be a quarter of the heap.
log.cleaner.dedupe.buffer.size=33554432
"""

_OF_SEVERAL = "min.insync.replicas=2\n"

_LOG4J = """\
rootLogger.level=INFO
rootLogger.appenderRef.out.ref=out
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d %p %c: %m%n
"""


def new_id() -> str:
    """A random id of a cluster or directory; one that begins with "-" would be an option."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode())[0] == "-":
        continue
    return text


def wait_transactional(
    bootstrap_servers: str,
    check: Callable[[], None] = lambda: None,
    seconds_max: float = READY_SECONDS_MAX,
    replication: int = 1,
) -> None:
    """Wait until a real transaction has been committed; an open port is not readiness.

    `check` is called before each try and may raise to end the waiting. At least `replication`
    brokers must be there. Raises DevError when it takes too long.
    """
    end = time.monotonic() + seconds_max
    host, _, port = bootstrap_servers.split(",")[0].rpartition(":")
    # The client logs an error for each try.
    quiet = logging.getLogger("aiokafka")
    level = quiet.level
    quiet.setLevel(logging.CRITICAL)
    try:
        while True:
            check()
            left = max(0.1, end - time.monotonic())
            try:
                socket.create_connection((host, int(port)), min(1, left)).close()
                run_apart(_transaction(bootstrap_servers, replication), min(TRY_SECONDS_MAX, left))
                return
            except (KafkaError, OSError, asyncio.TimeoutError, AssertionError) as error:
                # An assertion of the client's: a broker that was frozen names no broker at first.
                if time.monotonic() > end:
                    raise DevError(
                        f"Kafka at {bootstrap_servers} is not ready: "
                        f"{str(error) or type(error).__name__}"
                    ) from error
                time.sleep(0.05)
    finally:
        quiet.setLevel(level)


@dataclass(frozen=True)
class Node:
    """Which broker of several: its number, from 1, and the controllers' ports of all.

    `formatted` is a formatted storage without records, made by the first: the others begin
    with a copy, and so have the same cluster id without a run of Kafka's tool for each.
    """

    number: int
    controller_ports: tuple[int, ...]
    formatted: Path


class Kafka:
    """One broker; `folder` has its data and settings, `log` its output.

    `properties` go after these, and `format_options` to the formatting of its storage.
    `jvm`: see `Jvm`. `node`: which one it is of several. `listeners` are (port, port that it
    advertises to the clients of this listener), besides its own port.
    """

    def __init__(
        self,
        folder: Path,
        log: Path,
        port: int,
        controller_port: int,
        *,
        properties: str = "",
        format_options: Sequence[str] = (),
        jvm: Jvm = "quick",
        node: Node | None = None,
        listeners: Sequence[tuple[int, int]] = (),
    ) -> None:
        self._properties = properties
        self._format_options = format_options
        self._jvm_options = _QUICK if jvm == "quick" else ()
        self.folder = folder
        self.port = port
        self.controller_port = controller_port
        self._node = node
        self.listeners = list(listeners)
        self.server = Server(f"Kafka {node.number}" if node else "Kafka", log, signal.SIGTERM)

    @property
    def bootstrap_servers(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self.port}"

    def start(self, *, detached: bool = False) -> None:
        """Start it on its port and data, and wait until a transaction went through."""
        self.launch(detached=detached)
        self.settle()

    def launch(self, *, detached: bool = False) -> None:
        """Start it without waiting until it is ready."""
        self.prepare()
        self.server.start(self.command(), cwd=self.folder, detached=detached)

    def settle(self) -> None:
        """Wait until it is ready, and say so. Raises DevError when it is not in time."""
        with step(f"starting Kafka on {self.bootstrap_servers}"):
            self.wait_ready()

    def command(self) -> list[str]:
        """The command that runs the broker. Raises DevError when there is no Java."""
        heap = "-Xmx384m" if self._node else "-Xmx512m"
        java = self._java("-Xms256m", heap, *self._jvm_options)
        return [*java, "kafka.Kafka", self._config]

    def stop(self) -> None:
        """Stop it gracefully."""
        self.server.stop()

    def kill(self) -> None:
        """SIGKILL. `start` brings it back on the same port and data.

        A commit acknowledged within the last moments may stay unfinished permanently then: at
        its start Kafka 4.4 takes a partition that has no leader yet for a deleted one, and
        does not write the marker that was due. Readers of committed records stop there.
        """
        self.server.kill()

    def wait_ready(self, seconds_max: float = READY_SECONDS_MAX) -> None:
        """Wait until a real transaction has been committed. Raises DevError when it is not."""
        wait_transactional(self.bootstrap_servers, self.server.require_alive, seconds_max)

    @property
    def _config(self) -> str:
        return str(self.folder / "server.properties")

    def _java(self, *options: str) -> list[str]:
        jars = ":".join(str(jar) for jar in kafka_jars())
        logging = f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}"
        return [str(java()), *options, logging, "-cp", jars]

    def _settings(self, data: Path) -> str:
        number = self._node.number if self._node else 1
        controllers = self._node.controller_ports if self._node else (self.controller_port,)
        count = len(controllers)
        own = _PROPERTIES.format(
            number=number,
            voters=",".join(f"{n}@127.0.0.1:{port}" for n, port in enumerate(controllers, 1)),
            port=self.port,
            controller_port=self.controller_port,
            data=data,
            replication=min(3, count),
            in_sync=2 if count >= 3 else 1,
            internal=4 * count,
        )
        own += _OF_SEVERAL if count >= 3 else ""
        return own + self._listening() + self._properties

    def _listening(self) -> str:
        """The listeners of a broker that has more than its own."""
        if not self.listeners:
            return ""
        here, published = [("PLAINTEXT", self.port)], [("PLAINTEXT", self.port)]
        for number, (port, advertised) in enumerate(self.listeners):
            here.append((f"EXTRA{number}", port))
            published.append((f"EXTRA{number}", advertised))
        here.append(("CONTROLLER", self.controller_port))

        def written(listeners: list[tuple[str, int]]) -> str:
            return ",".join(f"{name}://127.0.0.1:{port}" for name, port in listeners)

        return (
            f"listeners={written(here)}\n"
            f"advertised.listeners={written(published)}\n"
            f"listener.security.protocol.map={','.join(f'{name}:PLAINTEXT' for name, _ in here)}\n"
            "inter.broker.listener.name=PLAINTEXT\n"
        )

    def prepare(self) -> None:
        """Write the settings, and format the storage unless that was done before.

        Raises DevError when it cannot be formatted.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        data = self.folder / "data"
        formatted = self.folder / "formatted"
        (self.folder / "log4j2.properties").write_text(_LOG4J)
        Path(self._config).write_text(self._settings(data))
        if formatted.exists() and (data / "meta.properties").exists():
            return
        # The mark is set last: without it a formatting was interrupted.
        shutil.rmtree(data, ignore_errors=True)
        common = self._node.formatted if self._node else None
        if common is None or not common.exists():
            self._format()
        if common is not None:
            _share(data, common)
            _copy_formatted(common, data, self._node.number if self._node else 1)
        formatted.touch()

    def _format(self) -> None:
        command = [*self._java(*_QUICK), "kafka.tools.StorageTool", "format"]
        command += ["--cluster-id", new_id(), "--config", self._config]
        command += self._format_options
        with step("formatting Kafka's storage"):
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=FORMAT_SECONDS_MAX
            )
            if done.returncode:
                words = (done.stdout + done.stderr)[-2000:]
                raise DevError(f"Kafka's storage could not be formatted:\n{words}")


def _share(data: Path, common: Path) -> None:
    """Keep a storage that was just formatted for the others, unless one is kept."""
    if not common.exists():
        unfinished = common.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(data, unfinished)
        unfinished.rename(common)


def _copy_formatted(common: Path, data: Path, number: int) -> None:
    """Make the storage of a broker: as the common one, with an id and a directory of its own."""
    shutil.rmtree(data, ignore_errors=True)
    shutil.copytree(common, data)
    properties = data / "meta.properties"
    own = {"node.id": str(number), "directory.id": new_id()}
    lines = [line.partition("=") for line in properties.read_text().splitlines()]
    properties.write_text(
        "".join(f"{name}{equals}{own.get(name, value)}\n" for name, equals, value in lines)
    )


async def _transaction(bootstrap_servers: str, replication: int) -> None:
    """Commit records and a group's offset in one transaction, on a topic made for it.

    That needs every part that is made late: both coordinators and their topics.
    """
    name = f"{READY_NAME}-{uuid.uuid4().hex[:8]}"
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, request_timeout_ms=5_000)
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers, transactional_id=name, request_timeout_ms=10_000
    )
    try:
        await admin.start()
        response = await admin.create_topics([NewTopic(name, 1, replication)])
        for _, code, *_ in response.topic_errors:
            if code:
                raise for_code(code)
        try:
            await producer.start()
            async with producer.transaction():
                await producer.send_and_wait(name, b"ready")
                await producer.send_offsets_to_transaction({TopicPartition(name, 0): 1}, READY_NAME)
        finally:
            await admin.delete_topics([name])
    finally:
        await asyncio.gather(producer.stop(), admin.close(), return_exceptions=True)
