"""Kafka and PostgreSQL together, with their data in one folder."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from billing_stream.dev.cache import DevError, locked
from billing_stream.dev.kafka import Kafka
from billing_stream.dev.postgres import Postgres
from billing_stream.dev.server import ProcessId, Server, free_port, is_free


def default_data_dir() -> Path:
    """BILLING_DATA_DIR, else `.data` in the current folder."""
    return Path(os.environ.get("BILLING_DATA_DIR") or ".data").absolute()


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
    ) -> None:
        self.data_dir = (data_dir or default_data_dir()).absolute()
        self._wanted = {"kafka": kafka, "postgres": postgres}
        self._state_file = self.data_dir / "cluster.json"
        ports = self._ports()
        logs = self.data_dir / "logs"
        self.kafka = Kafka(
            self.data_dir / "kafka",
            logs / "kafka.log",
            ports["kafka"],
            ports["controller"],
        )
        self.postgres = Postgres(
            self.data_dir / "postgres", logs / "postgres.log", ports["postgres"]
        )

    @property
    def bootstrap_servers(self) -> str:
        """The KAFKA_BOOTSTRAP_SERVERS of this cluster."""
        return self.kafka.bootstrap_servers

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
            try:
                self._start(detached=False)
            except BaseException:
                self._stop()
                raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    def up(self) -> None:
        """Start what is wanted and not running, detached."""
        with self._exclusive():
            self._start(detached=True)

    def down(self, *, delete: bool = False) -> list[str]:
        """Stop what runs; its names. `delete` removes the data too."""
        with self._exclusive():
            stopped = []
            for name, server in self._running_servers().items():
                server.stop()
                stopped.append(name)
            self._write_state({})
        if delete:
            shutil.rmtree(self.postgres.folder, ignore_errors=True)
            shutil.rmtree(self.data_dir, ignore_errors=True)
        return stopped

    def running(self) -> dict[str, int]:
        """The pid of each server that runs."""
        return {name: s.process.pid for name, s in self._running_servers().items() if s.process}

    def environment(self) -> dict[str, str]:
        """The variables that let a worker use what runs."""
        running = self.running()
        found = {}
        if "kafka" in running:
            found["KAFKA_BOOTSTRAP_SERVERS"] = self.bootstrap_servers
        if "postgres" in running:
            found["DATABASE_URL"] = self.database_url
        return found

    def is_ready(self, name: str) -> bool:
        """Whether the server carries out a transaction or a query now."""
        try:
            self._server_of(name).wait_ready()
        except DevError:
            return False
        return True

    def _server_of(self, name: str) -> Kafka | Postgres:
        return self.kafka if name == "kafka" else self.postgres

    def _start(self, *, detached: bool) -> None:
        running = self._running_servers()
        for name, wanted in self._wanted.items():
            if wanted and name not in running:
                self._server_of(name).start(detached=detached)
                self._record(name)

    def _stop(self) -> None:
        for name, wanted in self._wanted.items():
            if wanted and self._server_of(name).server.process is not None:
                self._server_of(name).stop()

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        with locked(self.data_dir / ".lock"):
            yield

    def _ports(self) -> dict[str, int]:
        """The ports of last time while they are free or ours, else new ones."""
        state = self._read_state()
        live = {name for name in ("kafka", "postgres") if self._recorded(state, name)}
        ports = {}
        for name, owner in (
            ("kafka", "kafka"),
            ("controller", "kafka"),
            ("postgres", "postgres"),
        ):
            known = state.get("ports", {}).get(name)
            if known and (owner in live or is_free(known)):
                ports[name] = known
            else:
                ports[name] = free_port()
        return ports

    def _record(self, name: str) -> None:
        process = self._server_of(name).server.process
        if process is None:
            return
        state = self._read_state()
        state["ports"] = {
            "kafka": self.kafka.port,
            "controller": self.kafka._controller_port,
            "postgres": self.postgres.port,
        }
        state.setdefault("processes", {})[name] = [process.pid, process.created]
        self._write_state(state)

    def _running_servers(self) -> dict[str, Server]:
        state = self._read_state()
        found = {}
        for name in ("kafka", "postgres"):
            process = self._recorded(state, name)
            if process is not None:
                server = self._server_of(name).server
                server.process = process
                found[name] = server
        return found

    @staticmethod
    def _recorded(state: dict[str, Any], name: str) -> ProcessId | None:
        recorded = state.get("processes", {}).get(name)
        if not recorded:
            return None
        process = ProcessId(int(recorded[0]), float(recorded[1]))
        return process if process.alive else None

    def _read_state(self) -> dict[str, Any]:
        try:
            state = json.loads(self._state_file.read_text())
        except (OSError, ValueError):
            # Never written, or cut short by a crash: then nothing is known to run.
            return {}
        return state if isinstance(state, dict) else {}

    def _write_state(self, state: dict[str, Any]) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        unfinished = self._state_file.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(state))
        unfinished.replace(self._state_file)
