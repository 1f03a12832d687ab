"""One broker, or several that are one cluster."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from billing_stream.dev.cache import step
from billing_stream.dev.kafka import Jvm, Kafka, Node, wait_transactional

Ports = tuple[int, int]


class Brokers:
    """The brokers of a cluster, each a controller too; nodes[0] has the id 1, and so on.

    `folder` has their data: of one alone in itself, of several in a folder for each. `ports`
    are (port, port of the controller) of each, `listeners` those of `Kafka` for each.
    `properties`, `format_options` and `jvm` are those of `Kafka`, for all.
    """

    def __init__(
        self,
        folder: Path,
        logs: Path,
        ports: Sequence[Ports],
        *,
        properties: str = "",
        format_options: Sequence[str] = (),
        jvm: Jvm = "quick",
        listeners: Sequence[Sequence[tuple[int, int]]] = (),
    ) -> None:
        alone = len(ports) == 1
        controllers = tuple(controller for _, controller in ports)
        self.nodes = [
            Kafka(
                folder if alone else folder / str(number),
                logs / ("kafka.log" if alone else f"kafka-{number}.log"),
                port,
                controller,
                properties=properties,
                format_options=format_options,
                jvm=jvm,
                node=None if alone else Node(number, controllers, folder / "formatted"),
                listeners=listeners[number - 1] if listeners else (),
            )
            for number, (port, controller) in enumerate(ports, 1)
        ]

    @property
    def bootstrap_servers(self) -> str:
        """host:port of each, with commas between."""
        return ",".join(node.bootstrap_servers for node in self.nodes)

    def start(self, *, detached: bool = False) -> None:
        """Start all that do not run, and wait until a transaction went through."""
        self.prepare()
        for node in self.nodes:
            if not node.server.alive:
                node.launch(detached=detached)
        self.settle()

    def prepare(self) -> None:
        """Write the settings and format the storage of those that do not run. Raises DevError."""
        for node in self.nodes:
            if not node.server.alive:
                node.prepare()

    def settle(self) -> None:
        """Wait until all are there and a transaction went through. Raises DevError."""
        with step(f"starting Kafka on {self.bootstrap_servers}"):
            wait_transactional(
                self.bootstrap_servers, self._require_alive, replication=len(self.nodes)
            )

    def stop(self) -> None:
        """Stop all gracefully, at once: each hands its partitions over while another is there."""
        with ThreadPoolExecutor(len(self.nodes)) as threads:
            list(threads.map(Kafka.stop, self.nodes))

    def _require_alive(self) -> None:
        for node in self.nodes:
            node.server.require_alive()
