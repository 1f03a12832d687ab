"""Runs `billing-stream dev` as a person does, in processes of its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

UP_SECONDS_MAX = 150.0
EXPORTED = ("KAFKA_BOOTSTRAP_SERVERS", "BILLING_REPLICATION_FACTOR", "DATABASE_URL")


def environment(folder: Path) -> dict[str, str]:
    """The caller's environment, with the data in `folder`."""
    return {**os.environ, "BILLING_DATA_DIR": str(folder)}


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    """Start `billing-stream dev ...` in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "billing_stream", "dev", *arguments],
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run `billing-stream dev ...` to its end."""
    with start(folder, *arguments) as process:
        out, err = process.communicate(timeout=UP_SECONDS_MAX)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def exported(out: str) -> dict[str, str]:
    """What a shell has set after it evaluated the output."""
    clean = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME")}
    done = subprocess.run(["sh", "-c", f"{out}\nenv"], capture_output=True, text=True, env=clean)
    found = dict(line.partition("=")[::2] for line in done.stdout.splitlines())
    return {name: found[name] for name in EXPORTED if name in found}


def servers_of(folder: Path) -> list[psutil.Process]:
    """The processes that run for a data folder: servers and their supervisors."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            is_ours = any(str(folder) in word for word in words)
            is_server = any("kafka.Kafka" in word or "supervise" in word for word in words)
            if is_ours and (is_server or Path(words[0]).name.startswith("postgres")):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


def gone(processes: list[psutil.Process], seconds_max: float = 15.0) -> bool:
    """Whether all of them have ended within the time."""
    end = time.monotonic() + seconds_max
    while any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


@contextmanager
def owner(folder: Path, *, kafka: bool, postgres: bool) -> Iterator["subprocess.Popen[str]"]:
    """A process with a Cluster that is ready, and waits for ever."""
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from billing_stream.dev.cluster import Cluster\n"
        f"with Cluster(Path(sys.argv[1]), kafka={kafka}, postgres={postgres}) as cluster:\n"
        "    print(*cluster.running().values(), flush=True)\n"
        "    time.sleep(600)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.communicate(timeout=10)
