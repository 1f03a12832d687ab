"""A real PostgreSQL on this machine."""

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import time
from pathlib import Path

import asyncpg

from billing_stream.dev.cache import DevError, step
from billing_stream.dev.provision import postgres_bin
from billing_stream.dev.run import run_apart
from billing_stream.dev.server import Server

READY_SECONDS_MAX = 60.0
DATABASE = "billing"
# Readable by every user: what PostgreSQL, which refuses to run as root, must reach.
SHARED = Path("/var/tmp")


class Postgres:
    """One server; `folder` has its data, `log` its output."""

    def __init__(self, folder: Path, log: Path, port: int) -> None:
        self._account = _account()
        self.folder = folder if self._reaches(folder) else _elsewhere(folder)
        self.port = port
        self._log = log
        self._server: Server | None = None

    @property
    def database_url(self) -> str:
        """The DATABASE_URL of the billing database."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{DATABASE}"

    @property
    def server(self) -> Server:
        """The process."""
        if self._server is None:
            user, group = self._account or (None, None)
            options = [
                *("-D", str(self.folder / "data"), "-p", str(self.port)),
                *("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="),
            ]
            self._server = Server(
                "PostgreSQL",
                {
                    "command": [str(self._bin / "postgres"), *options],
                    "log": str(self._log),
                    "cwd": "/",
                    "user": user,
                    "group": group,
                    # Fast shutdown: SIGTERM would wait for clients to leave.
                    "stop_signal": int(signal.SIGINT),
                },
            )
        return self._server

    def start(self, *, detached: bool = False) -> None:
        """Start it on its port and data, and wait until it answers a query."""
        self._prepare()
        with step(f"starting PostgreSQL on 127.0.0.1:{self.port}"):
            self.server.start(detached=detached)
            self.wait_ready()

    def stop(self) -> None:
        """Stop it gracefully."""
        self.server.stop()

    def kill(self) -> None:
        """SIGKILL."""
        self.server.kill()

    def wait_ready(self) -> None:
        """Wait until a real query was answered. Raises DevError when it is not."""
        end = time.monotonic() + READY_SECONDS_MAX
        while True:
            self.server.require_alive()
            try:
                run_apart(_create_database(self.port))
                return
            except (OSError, asyncpg.PostgresError, asyncio.TimeoutError) as error:
                if time.monotonic() > end:
                    raise DevError(f"PostgreSQL is not ready: {error}") from error
                time.sleep(0.05)

    @property
    def _bin(self) -> Path:
        found = postgres_bin()
        return found if self._reaches(found) else postgres_bin(SHARED / "billing-stream-cache")

    def _reaches(self, path: Path) -> bool:
        """Whether the user that PostgreSQL runs under can get to this path."""
        if self._account is None:
            return True
        existing = [p for p in (path, *path.absolute().parents) if p.exists()]
        return all(p.stat().st_mode & 0o001 for p in existing if p != path)

    def _prepare(self) -> None:
        data = self.folder / "data"
        self._log.parent.mkdir(parents=True, exist_ok=True)
        if (self.folder / "initialised").exists():
            # Left behind by a kill; PostgreSQL itself checks whether the owner lives.
            return
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir(parents=True)
        user, group = self._account or (None, None)
        if user is not None and group is not None:
            os.chown(data, user, group)
        command = [str(self._bin / "initdb"), "-D", str(data), "-U", "postgres"]
        with step("making PostgreSQL's data folder"):
            done = subprocess.run(
                [*command, "-A", "trust", "-E", "UTF8", "--no-sync"],
                cwd="/",
                capture_output=True,
                text=True,
                user=user,
                group=group,
                extra_groups=[] if user is not None else None,
            )
            if done.returncode:
                raise DevError(f"PostgreSQL's data folder was not made:\n{done.stderr[-2000:]}")
        (self.folder / "initialised").touch()


def _account() -> tuple[int, int] | None:
    """The user and group to run under instead of root, or None when we are not root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return entry.pw_uid, entry.pw_gid
    raise DevError("PostgreSQL does not run as root, and there is no user postgres or nobody")


def _elsewhere(folder: Path) -> Path:
    """A folder that other users can reach, with a link to it where it is looked for."""
    name = str(folder.absolute()).strip("/").replace("/", "-")
    target = SHARED / f"billing-stream-{name}"
    target.mkdir(parents=True, exist_ok=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not folder.exists():
        folder.symlink_to(target)
    return target


async def _create_database(port: int) -> None:
    connection = await asyncpg.connect(
        host="127.0.0.1", port=port, user="postgres", database="postgres", timeout=5
    )
    try:
        exists = await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE)
        if not exists:
            await connection.execute(f'CREATE DATABASE "{DATABASE}"')
    finally:
        await connection.close()
