"""`billing-stream dev start` in its odd moments: stopped early, started twice, without a server."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import dev_cli
from tests.support.ports import free_port

SECONDS_MAX = 90.0

pytestmark = [pytest.mark.full, pytest.mark.timeout(240)]


@contextmanager
def started(data: Path, awaited: str) -> Iterator["subprocess.Popen[str]"]:
    """The running command, once it has said something."""
    with dev_cli.start(data, "start", "--port", str(free_port())) as process:
        try:
            said(process, awaited)
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
                process.communicate(timeout=SECONDS_MAX)


def said(process: "subprocess.Popen[str]", awaited: str) -> None:
    """Read what it prints up to this. Both streams are one for it, as in a terminal."""
    assert process.stdout is not None
    assert process.stderr is not None
    end = time.monotonic() + SECONDS_MAX
    lines = []
    stream = process.stdout if awaited.startswith("Ready") else process.stderr
    while time.monotonic() < end:
        lines.append(stream.readline())
        if awaited in lines[-1]:
            return
        assert lines[-1], lines
    raise AssertionError(lines)


@pytest.mark.parametrize("awaited", ["starting Kafka", "creating topics ...", "starting worker"])
def test_ctrl_c_while_it_starts_ends_all_without_a_traceback(data: Path, awaited: str) -> None:
    with started(data, awaited) as process:
        servers = dev_cli.servers_of(data)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=SECONDS_MAX)

    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert "failed" not in errors
    assert ": interrupted after" in errors
    assert dev_cli.gone(servers)
    assert not dev_cli.servers_of(data)


def test_second_start_names_the_first_and_a_lost_server_is_named(data: Path) -> None:
    with started(data, "Ready.") as process:
        second = dev_cli.run(data, "start")
        postgres = next(one for one in dev_cli.servers_of(data) if one.name() == "postgres")
        postgres.kill()
        said(process, "postgres ended; its log is in")

    assert second.returncode == 1
    assert f"belong to process {process.pid} and end with it: stop it (Ctrl-C" in second.stderr
    assert process.returncode == 0
