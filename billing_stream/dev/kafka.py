"""A real Apache Kafka (KRaft, one node) on this machine."""

import asyncio
import base64
import logging
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from billing_stream.dev.cache import DevError, step
from billing_stream.dev.provision import java, kafka_jars
from billing_stream.dev.run import run_apart
from billing_stream.dev.server import Server

READY_SECONDS_MAX = 90.0
READY_TOPIC = "billing-stream-ready"

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
"""

_LOG4J = """\
rootLogger.level=INFO
rootLogger.appenderRef.out.ref=out
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d %p %c: %m%n
"""


def wait_transactional(bootstrap_servers: str, check: Callable[[], None] = lambda: None) -> None:
    """Wait until a real transaction has been committed; an open port is not readiness.

    `check` is called before each try and may raise to end the waiting. Raises DevError
    when it takes too long.
    """
    end = time.monotonic() + READY_SECONDS_MAX
    host, _, port = bootstrap_servers.split(",")[0].rpartition(":")
    # The client logs an error for each try.
    quiet = logging.getLogger("aiokafka")
    level = quiet.level
    quiet.setLevel(logging.CRITICAL)
    try:
        while True:
            check()
            try:
                socket.create_connection((host, int(port)), 1).close()
                run_apart(_transaction(bootstrap_servers))
                return
            except (KafkaError, OSError, asyncio.TimeoutError) as error:
                if time.monotonic() > end:
                    raise DevError(f"Kafka is not ready: {error}") from error
                time.sleep(0.1)
    finally:
        quiet.setLevel(level)


class Kafka:
    """One broker; `folder` has its data and settings, `log` its output."""

    def __init__(self, folder: Path, log: Path, port: int, controller_port: int) -> None:
        self.folder = folder
        self.port = port
        self._controller_port = controller_port
        self._log = log
        self._server: Server | None = None

    @property
    def bootstrap_servers(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self.port}"

    @property
    def server(self) -> Server:
        """The process. Raises DevError before the first start."""
        if self._server is None:
            self._server = Server(
                "Kafka",
                {
                    "command": [
                        *self._java("-Xms256m", "-Xmx512m"),
                        "kafka.Kafka",
                        self._config,
                    ],
                    "log": str(self._log),
                    "cwd": str(self.folder),
                    "stop_signal": int(signal.SIGTERM),
                },
            )
        return self._server

    def start(self, *, detached: bool = False) -> None:
        """Start it on its port and data, and wait until a transaction went through."""
        self._prepare()
        with step(f"starting Kafka on {self.bootstrap_servers}"):
            self.server.start(detached=detached)
            self.wait_ready()

    def stop(self) -> None:
        """Stop it gracefully."""
        self.server.stop()

    def kill(self) -> None:
        """SIGKILL."""
        self.server.kill()

    def wait_ready(self) -> None:
        """Wait until a real transaction has been committed. Raises DevError when it is not."""
        wait_transactional(self.bootstrap_servers, self.server.require_alive)

    @property
    def _config(self) -> str:
        return str(self.folder / "server.properties")

    def _java(self, *options: str) -> list[str]:
        jars = ":".join(str(jar) for jar in kafka_jars())
        logging = f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}"
        return [str(java()), *options, logging, "-cp", jars]

    def _prepare(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._log.parent.mkdir(parents=True, exist_ok=True)
        data = self.folder / "data"
        (self.folder / "log4j2.properties").write_text(_LOG4J)
        Path(self._config).write_text(
            _PROPERTIES.format(port=self.port, controller_port=self._controller_port, data=data)
        )
        if (data / "meta.properties").exists() and (self.folder / "formatted").exists():
            return
        command = self._java("-XX:TieredStopAtLevel=1")
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        arguments = ["kafka.tools.StorageTool", "format", "--ignore-formatted"]
        with step("formatting Kafka's storage"):
            done = subprocess.run(
                [
                    *command,
                    *arguments,
                    "--cluster-id",
                    cluster_id,
                    "--config",
                    self._config,
                ],
                capture_output=True,
                text=True,
            )
            if done.returncode:
                raise DevError(f"Kafka's storage could not be formatted:\n{done.stderr[-2000:]}")
        (self.folder / "formatted").touch()


async def _transaction(bootstrap_servers: str) -> None:
    """Commit one transaction on a topic made for it; an open port is not readiness."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, request_timeout_ms=5_000)
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers,
        transactional_id=READY_TOPIC,
        request_timeout_ms=10_000,
    )
    try:
        await admin.start()
        await admin.create_topics([NewTopic(READY_TOPIC, 1, 1)])
        await asyncio.wait_for(producer.start(), 15)
        async with producer.transaction():
            await producer.send_and_wait(READY_TOPIC, b"ready")
        await admin.delete_topics([READY_TOPIC])
    finally:
        await asyncio.gather(producer.stop(), admin.close(), return_exceptions=True)
