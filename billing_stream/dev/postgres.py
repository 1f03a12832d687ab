"""A real PostgreSQL on this machine."""

import asyncio
import hashlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import time
from pathlib import Path

import asyncpg
import psutil

from billing_stream.dev.cache import DevError, cache_dir, step
from billing_stream.dev.provision import postgres_bin
from billing_stream.dev.run_apart import run_apart
from billing_stream.dev.server_process import Server

READY_SECONDS_MAX = 60.0
TRY_SECONDS_MAX = 10.0
INITDB_SECONDS_MAX = 120.0
DATABASE = "billing"
# PostgreSQL refuses to run as root, and the user it runs under instead cannot enter root's
# home or temporary folders. Only root writes here, so nobody else can put a trap in.
SHARED = Path("/var/lib/billing-stream")


class Postgres:
    """One server; `folder` has its data, `log` its output."""

    def __init__(self, folder: Path, log: Path, port: int) -> None:
        self._link = folder
        self._account = _account()
        self.folder = folder if self._reaches(folder) else _shared_folder(folder)
        self.port = port
        # Fast shutdown: SIGTERM would wait for clients to leave.
        self.server = Server("PostgreSQL", log, signal.SIGINT)

    @property
    def database_url(self) -> str:
        """The DATABASE_URL of the billing database, with the password made at the first start."""
        return f"postgresql://postgres:{self._password()}@127.0.0.1:{self.port}/{DATABASE}"

    def start(self, *, detached: bool = False) -> None:
        """Start it on its port and data, and wait until it answers a query."""
        self.launch(detached=detached)
        self.settle()

    def launch(self, *, detached: bool = False) -> None:
        """Start it without waiting until it is ready."""
        binaries = self._binaries()
        self._prepare(binaries)
        command = [str(binaries / "postgres"), "-D", str(self.folder / "data")]
        command += ["-p", str(self.port), "-c", "listen_addresses=127.0.0.1"]
        command += ["-c", "unix_socket_directories="]
        self.server.start(command, cwd=Path("/"), account=self._account, detached=detached)

    def settle(self) -> None:
        """Wait until it is ready, and say so."""
        with step(f"starting PostgreSQL on 127.0.0.1:{self.port}"):
            self.wait_ready()

    def stop(self) -> None:
        """Stop it gracefully."""
        self.server.stop()

    def kill(self) -> None:
        """SIGKILL. `start` brings it back on the same port and data."""
        self.server.kill()

    def delete(self) -> None:
        """Delete the data, wherever it is."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._link.is_symlink():
            self._link.unlink()

    def wait_ready(self, seconds_max: float = READY_SECONDS_MAX) -> None:
        """Wait until a real query was answered. Raises DevError when it is not."""
        end = time.monotonic() + seconds_max
        while True:
            self.server.require_alive()
            left = max(0.1, end - time.monotonic())
            try:
                run_apart(_create_database(self.port, self._password()), min(TRY_SECONDS_MAX, left))
                return
            except (OSError, asyncpg.PostgresError, asyncio.TimeoutError) as error:
                if time.monotonic() > end:
                    raise DevError(f"PostgreSQL is not ready: {error}") from error
                time.sleep(0.05)

    def _binaries(self) -> Path:
        """The programs, in a place that the user they run under can reach."""
        root = None if self._reaches(cache_dir()) else SHARED / "cache"
        if root is not None:
            _make_shared(root)
        return postgres_bin(root)

    def _reaches(self, path: Path) -> bool:
        """Whether the user that PostgreSQL runs under can get to this path."""
        if self._account is None:
            return True
        return all(p.stat().st_mode & 0o001 for p in path.absolute().parents if p.exists())

    def _password(self) -> str:
        try:
            return (self.folder / "password").read_text()
        except FileNotFoundError:
            return ""

    def _prepare(self, binaries: Path) -> None:
        """Make the data folder unless that was done before."""
        if self.folder != self._link:
            self._lay_link()
        initialised = self.folder / "initialised"
        if initialised.exists():
            self._clear_dead_owner()
            return
        data, password = self.folder / "data", self.folder / "password"
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir(parents=True)
        self.folder.chmod(0o755)
        # Whoever reaches the port could run programs as a superuser: hence a password.
        password.touch(0o600)
        password.write_text(secrets.token_urlsafe(24))
        user, group = self._account or (None, None)
        if user is not None and group is not None:
            for path in (data, password):
                os.chown(path, user, group)
        command = [str(binaries / "initdb"), "-D", str(data), "-U", "postgres", "-E", "UTF8"]
        command += ["--locale=C", "-A", "scram-sha-256", f"--pwfile={password}", "--no-sync"]
        with step("making PostgreSQL's data folder"):
            done = subprocess.run(
                command,
                cwd="/",
                capture_output=True,
                text=True,
                user=user,
                group=group,
                extra_groups=None if user is None else [],
                timeout=INITDB_SECONDS_MAX,
            )
            if done.returncode:
                raise DevError(f"PostgreSQL's data folder was not made:\n{done.stderr[-2000:]}")
        initialised.touch()

    def _clear_dead_owner(self) -> None:
        """Remove the pid file of a killed server.

        PostgreSQL does that itself, but takes for alive a zombie without a waiting parent (in
        a container the first process often does not), and a later process with that pid.
        """
        file = self.folder / "data" / "postmaster.pid"
        if not file.exists():
            return
        pid = file.read_text().partition("\n")[0]
        try:
            words = psutil.Process(int(pid)).cmdline()
        except (ValueError, psutil.NoSuchProcess):
            # A zombie has no command line, and that is a NoSuchProcess too.
            words = []
        if not words or not Path(words[0]).name.startswith("postgres"):
            file.unlink()

    def _lay_link(self) -> None:
        """Put a link to the shared folder where the data is looked for."""
        if not self._link.is_symlink():
            # Who deleted the link deleted the data, as far as they could see.
            shutil.rmtree(self.folder, ignore_errors=True)
            self._link.parent.mkdir(parents=True, exist_ok=True)
            self._link.symlink_to(self.folder)
        _make_shared(self.folder)


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
    users = "postgres or nobody"  # prose: ok
    raise DevError(f"PostgreSQL does not run as root, and there is no user {users}")


def _shared_folder(folder: Path) -> Path:
    digest = hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:16]
    return SHARED / "data" / digest


def _make_shared(folder: Path) -> None:
    """Make a folder under SHARED, and let others enter it whatever the umask."""
    folder.mkdir(parents=True, exist_ok=True)
    while folder.is_relative_to(SHARED):
        folder.chmod(0o755)
        folder = folder.parent


async def _create_database(port: int, password: str) -> None:
    connection = await asyncpg.connect(
        host="127.0.0.1",
        port=port,
        user="postgres",
        password=password,
        database="postgres",
        timeout=5,
    )
    try:
        exists = await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE)
        if not exists:
            await connection.execute(f'CREATE DATABASE "{DATABASE}"')
    finally:
        await connection.close()
