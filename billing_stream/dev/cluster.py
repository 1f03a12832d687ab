"""Kafka and PostgreSQL together, with their data in one folder."""

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from billing_stream.config.env_file import data_dir as default_data_dir
from billing_stream.dev import dev_environment
from billing_stream.dev.brokers import Brokers
from billing_stream.dev.cache import DevError, locked
from billing_stream.dev.kafka import Jvm, Kafka
from billing_stream.dev.postgres import Postgres
from billing_stream.dev.server_process import ProcessId, free_port, is_free
from billing_stream.dev.supervise import ORPHAN_STOP_SECONDS_MAX

STATUS_SECONDS_MAX = 5.0
# So many brokers can be started: one, or as many as a topic has replicas.
BROKERS = (1, 3)


class Cluster:
    """The servers of one data folder.

    As a context manager they live as long as the block, and not longer than this process,
    however it ends. `up` and `down` start and stop them detached.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        kafka: bool = True,
        postgres: bool = False,
        delete: bool = False,
        jvm: Jvm = "quick",
        brokers: int | None = None,
        properties: str = "",
    ) -> None:
        """`delete`: delete the data at the end of the block.

        `jvm` and `properties` are those of `Kafka`. `brokers` is one of BROKERS, by default as
        many as the data is of, one without data.
        """
        self.data_dir = (data_dir or default_data_dir()).absolute()
        self._kafka, self._postgres = kafka, postgres
        self._given = brokers
        self._properties = properties
        self._delete = delete
        self._jvm: Jvm = jvm
        self._state_file = self.data_dir / "cluster.json"
        self._lock_file = self.data_dir / ".lock"
        self._load()

    def _load(self) -> None:
        """Take up what the state file says; called again under the lock, before any change."""
        self._state = self._read_state()
        count = self._given or self._state["brokers"] or 1
        suffixes = [""] if count == 1 else [f"-{number}" for number in range(1, count + 1)]
        # Whose server each port is.
        self._owners = {"postgres": "postgres"}
        for suffix in suffixes:
            self._owners |= dict.fromkeys(
                (f"kafka{suffix}", f"controller{suffix}"), f"kafka{suffix}"
            )
        ports = self._known_ports = self._ports()
        logs = self.data_dir / "logs"
        self.brokers = Brokers(
            self.data_dir / "kafka",
            logs,
            [(ports[f"kafka{suffix}"], ports[f"controller{suffix}"]) for suffix in suffixes],
            properties=self._properties,
            jvm=self._jvm,
        )
        self.postgres = Postgres(
            self.data_dir / "postgres", logs / "postgres.log", ports["postgres"]
        )
        names = [f"kafka{suffix}" for suffix in suffixes]
        self._servers: dict[str, Kafka | Postgres] = dict(
            zip(names, self.brokers.nodes, strict=True)
        )
        self._servers["postgres"] = self.postgres
        self._wanted = [*(names if self._kafka else ()), *["postgres"] * self._postgres]
        for name, server in self._servers.items():
            server.server.process = self._recorded(name)

    @property
    def kafka(self) -> Kafka:
        """The broker, or the first of several."""
        return self.brokers.nodes[0]

    @property
    def bootstrap_servers(self) -> str:
        """The KAFKA_BOOTSTRAP_SERVERS of this cluster: host:port of each broker."""
        return self.brokers.bootstrap_servers

    @property
    def database_url(self) -> str:
        """The DATABASE_URL of this cluster."""
        return self.postgres.database_url

    def __enter__(self) -> "Cluster":
        with self._exclusive():
            running = self.running()
            if running:
                raise DevError(
                    f"{' and '.join(running)} of {self.data_dir} run already: "
                    "`billing-stream dev down` stops them"
                )
            self._start(detached=False)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()
        if self._delete:
            self._delete_data()

    def up(self) -> None:
        """Start the wanted servers that do not run, detached; what runs is only waited for.

        Raises DevError when the servers belong to a process that will end them.
        """
        with self._exclusive():
            self.refuse_owned()
            self._start(detached=True)

    def down(self, *, delete: bool = False) -> list[str]:
        """Stop what runs; its names. `delete` removes the data too.

        Raises DevError when the servers belong to a process that still runs.
        """
        if not self.data_dir.exists():
            return []
        with self._exclusive():
            self.refuse_owned()
            stopped = self.running()
            self._stop_all(stopped)
            dev_environment.remove(self.data_dir)
            self._state.update(processes={}, owner=None)
            self._write_state()
            if delete:
                self._delete_data()
        return list(stopped)

    def running(self) -> dict[str, int]:
        """The pid of each server that runs."""
        servers = {name: server.server for name, server in self._servers.items()}
        return {n: s.process.pid for n, s in servers.items() if s.process and s.alive}

    def address(self, name: str) -> str:
        """Where the server of this name is: host:port, or the DATABASE_URL."""
        server = self._servers[name]
        return server.bootstrap_servers if isinstance(server, Kafka) else server.database_url

    def missing(self) -> list[str]:
        """The servers that were started, not stopped, and do not run: they crashed."""
        running = self.running()
        return [name for name in self._state["processes"] if name not in running]

    def environment(self) -> dict[str, str]:
        """The variables that let a worker use what runs."""
        running = self.running()
        found = {}
        if any(name in running for name in self._names_of_brokers()):
            found["KAFKA_BOOTSTRAP_SERVERS"] = self.bootstrap_servers
            if len(self.brokers.nodes) > 1:
                found["BILLING_REPLICATION_FACTOR"] = str(len(self.brokers.nodes))
        if "postgres" in running:
            found["DATABASE_URL"] = self.database_url
        return found

    def is_ready(self, name: str) -> bool:
        """Whether the server carries out a transaction or a query now, within 5 seconds."""
        try:
            self._servers[name].wait_ready(STATUS_SECONDS_MAX)
        except DevError:
            return False
        return True

    def _names_of_brokers(self) -> list[str]:
        return [name for name in self._servers if name != "postgres"]

    def _start(self, *, detached: bool) -> None:
        launched = []
        if self._kafka:
            self._refuse_other_count()
        try:
            if self._kafka:
                self.brokers.prepare()
            for name in self._wanted:
                if name not in self.running():
                    launched.append(name)
                    self._servers[name].launch(detached=detached)
                    # At once: should we be killed now, the next `up` or `down` finds it.
                    self._record(name, detached=detached)
            if self._kafka:
                self.brokers.settle()
            if self._postgres:
                self.postgres.settle()
        except BaseException:
            self._stop_all(launched)
            for name in launched:
                self._state["processes"].pop(name, None)
            if launched:
                self._write_state()
            raise

    def _stop(self) -> None:
        self._stop_all(self._wanted)
        if self._state_file.exists():
            self._state.update(processes={}, owner=None)
            self._write_state()

    def _stop_all(self, names: Iterable[str]) -> None:
        servers = [self._servers[name] for name in names]
        if servers:
            with ThreadPoolExecutor(len(servers)) as threads:
                list(threads.map(lambda server: server.stop(), servers))

    def _refuse_other_count(self) -> None:
        known = self._state["brokers"]
        if known and known != len(self.brokers.nodes):
            raise DevError(
                f"the data in {self.data_dir} is of {known} broker{'s' * (known > 1)}, not of "
                f"{len(self.brokers.nodes)}: `billing-stream dev down --delete` deletes it, or "
                "use another BILLING_DATA_DIR"
            )

    def refuse_owned(self) -> None:
        """Raises DevError when the servers belong to a process that still runs."""
        owner = _process(self._state["owner"])
        if owner is not None and self.running():
            raise DevError(
                f"the servers of {self.data_dir} belong to process {owner.pid} and end with it: "
                "stop it (Ctrl-C in its terminal), or use another BILLING_DATA_DIR"
            )

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Let one process at a time change the state, on what it is now."""
        with locked(self._lock_file):
            self._load()
            self._await_orphans()
            yield

    def _await_orphans(self) -> None:
        """Supervisors end the servers of an owner that was killed: let them."""
        if self._state["owner"] is None or _process(self._state["owner"]) is not None:
            return
        end = time.monotonic() + ORPHAN_STOP_SECONDS_MAX + 7.0
        while self.running() and time.monotonic() < end:
            time.sleep(0.05)

    def _ports(self) -> dict[str, int]:
        """The ports of last time while they are free or used by these servers, else new ones."""
        ports: dict[str, int] = {}
        for name, owner in self._owners.items():
            known = self._state["ports"].get(name)
            if known and (self._recorded(owner) is not None or is_free(known)):
                ports[name] = known
            else:
                ports[name] = free_port(set(ports.values()))
        return ports

    def _record(self, name: str, *, detached: bool) -> None:
        process = self._servers[name].server.process
        if process is None:
            return
        me = ProcessId.of(os.getpid())
        self._state["ports"] = self._known_ports
        if name != "postgres":
            self._state["brokers"] = len(self.brokers.nodes)
        self._state["processes"][name] = [process.pid, process.created]
        self._state["owner"] = None if detached or me is None else [me.pid, me.created]
        self._write_state()

    def _recorded(self, name: str) -> ProcessId | None:
        return _process(self._state["processes"].get(name))

    def _read_state(self) -> dict[str, Any]:
        """The state file; empty when it was never written or is of another program."""
        state: dict[str, Any] = {"ports": {}, "processes": {}, "owner": None, "brokers": None}
        try:
            found = json.loads(self._state_file.read_text())
        except (FileNotFoundError, ValueError):
            # Never written, or cut short when the machine lost its power, and its processes.
            return state
        except OSError as error:
            raise DevError(f"{self._state_file} cannot be read: {error.strerror}") from error
        return {**state, **found} if isinstance(found, dict) else state

    def _write_state(self) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        unfinished = self._state_file.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(self._state))
        unfinished.replace(self._state_file)

    def _delete_data(self) -> None:
        """Delete the servers' data, and the folder when nothing else is in it.

        Never the whole folder: BILLING_DATA_DIR may name one that has other things in it.
        A worker's tables are copies of what this Kafka held, so they go too.
        """
        self.postgres.delete()
        for name in ("kafka", "postgres", "logs", "worker"):
            shutil.rmtree(self.data_dir / name, ignore_errors=True)
        for file in (self._state_file, self._lock_file):
            file.unlink(missing_ok=True)
        # Not empty: something of others is in it.
        with contextlib.suppress(OSError):
            self.data_dir.rmdir()


@contextmanager
def postgres_alone() -> Iterator[Cluster]:
    """PostgreSQL alone, as long as the block; its data go with it."""
    folder = Path(tempfile.mkdtemp(prefix="billing-stream-postgres-"))
    # Started by root it runs under another user, who must be able to enter.
    folder.chmod(0o755)
    try:
        with Cluster(folder, kafka=False, postgres=True, delete=True) as cluster:
            yield cluster
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _process(recorded: list[float] | None) -> ProcessId | None:
    """The process of a record [pid, created] when it is still that one and runs."""
    if not recorded:
        return None
    process = ProcessId(int(recorded[0]), float(recorded[1]))
    return process if process.alive else None
