"""A real Apache Kafka (KRaft, one node) on this machine."""

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
from pathlib import Path
from typing import Literal

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from billing_stream.dev.cache import DevError, step
from billing_stream.dev.provision import java, kafka_jars
from billing_stream.dev.run import run_apart
from billing_stream.dev.server import Server

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
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.cleaner.backoff.ms=2000
# A killed broker may only come back when its session has ended: 9 s by default.
broker.session.timeout.ms=6000
broker.heartbeat.interval.ms=500
# The default, 128 MB, would be a quarter of the heap.
log.cleaner.dedupe.buffer.size=33554432
"""

_LOG4J = """\
rootLogger.level=INFO
rootLogger.appenderRef.out.ref=out
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d %p %c: %m%n
"""


def new_cluster_id() -> str:
    """A random id in Kafka's own form. One that begins with "-" would be read as an option."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode())[0] == "-":
        continue
    return text


def wait_transactional(
    bootstrap_servers: str,
    check: Callable[[], None] = lambda: None,
    seconds_max: float = READY_SECONDS_MAX,
) -> None:
    """Wait until a real transaction has been committed; an open port is not readiness.

    `check` is called before each try and may raise to end the waiting. Raises DevError
    when it takes too long.
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
                run_apart(_transaction(bootstrap_servers), min(TRY_SECONDS_MAX, left))
                return
            except (KafkaError, OSError, asyncio.TimeoutError) as error:
                if time.monotonic() > end:
                    raise DevError(
                        f"Kafka at {bootstrap_servers} is not ready: "
                        f"{str(error) or type(error).__name__}"
                    ) from error
                time.sleep(0.05)
    finally:
        quiet.setLevel(level)


class Kafka:
    """One broker; `folder` has its data and settings, `log` its output.

    `properties` go after ours, and `format_options` to the formatting of its storage.
    `jvm`: see `Jvm`.
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
    ) -> None:
        self._properties = properties
        self._format_options = format_options
        self._jvm_options = _QUICK if jvm == "quick" else ()
        self.folder = folder
        self.port = port
        self.controller_port = controller_port
        self.server = Server("Kafka", log, signal.SIGTERM)

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
        self._prepare()
        self.server.start(self.command(), cwd=self.folder, detached=detached)

    def settle(self) -> None:
        """Wait until it is ready, and say so."""
        with step(f"starting Kafka on {self.bootstrap_servers}"):
            self.wait_ready()

    def command(self) -> list[str]:
        """The command that runs the broker. Raises DevError when there is no Java."""
        java = self._java("-Xms256m", "-Xmx512m", *self._jvm_options)
        return [*java, "kafka.Kafka", self._config]

    def stop(self) -> None:
        """Stop it gracefully."""
        self.server.stop()

    def kill(self) -> None:
        """SIGKILL. `start` brings it back on the same port and data.

        A commit acknowledged within the last moments may stay unfinished for ever then: at
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

    def _prepare(self) -> None:
        """Write the settings, and format the storage unless that was done before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        data = self.folder / "data"
        formatted = self.folder / "formatted"
        (self.folder / "log4j2.properties").write_text(_LOG4J)
        Path(self._config).write_text(
            _PROPERTIES.format(port=self.port, controller_port=self.controller_port, data=data)
            + self._properties
        )
        if formatted.exists() and (data / "meta.properties").exists():
            return
        # The mark is set last: without it a formatting was interrupted.
        shutil.rmtree(data, ignore_errors=True)
        command = [*self._java(*_QUICK), "kafka.tools.StorageTool", "format"]
        command += ["--cluster-id", new_cluster_id(), "--config", self._config]
        command += self._format_options
        with step("formatting Kafka's storage"):
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=FORMAT_SECONDS_MAX
            )
            if done.returncode:
                words = (done.stdout + done.stderr)[-2000:]
                raise DevError(f"Kafka's storage could not be formatted:\n{words}")
        formatted.touch()


async def _transaction(bootstrap_servers: str) -> None:
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
        await admin.create_topics([NewTopic(name, 1, 1)])
        try:
            await producer.start()
            async with producer.transaction():
                await producer.send_and_wait(name, b"ready")
                await producer.send_offsets_to_transaction({TopicPartition(name, 0): 1}, READY_NAME)
        finally:
            await admin.delete_topics([name])
    finally:
        await asyncio.gather(producer.stop(), admin.close(), return_exceptions=True)
