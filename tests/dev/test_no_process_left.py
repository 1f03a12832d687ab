"""The servers of a block end with the process that has it, however that ends."""

import os
import signal
from pathlib import Path

import pytest

from tests.support import dev_cli

pytestmark = pytest.mark.full


def after(number: signal.Signals, folder: Path, *, kafka: bool, postgres: bool) -> bool:
    """Whether nothing is left once the owner of a cluster got a signal."""
    with dev_cli.owner(folder, kafka=kafka, postgres=postgres) as process:
        assert process.stdout is not None
        pids = process.stdout.readline().split()
        servers = dev_cli.servers_of(folder)
        assert len(pids) == kafka + postgres
        assert set(map(int, pids)) <= {server.pid for server in servers}
        os.killpg(process.pid, number)
        process.wait(timeout=30)
        return dev_cli.gone(servers)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_nothing_is_left_after(number: signal.Signals, data: Path) -> None:
    assert after(number, data, kafka=False, postgres=True)


def test_nothing_is_left_after_sigkill(data: Path) -> None:
    assert after(signal.SIGKILL, data, kafka=True, postgres=True)


def test_a_server_ends_with_its_supervisor(data: Path) -> None:
    with dev_cli.owner(data, kafka=False, postgres=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        servers = dev_cli.servers_of(data)
        # All are looked at before one is killed: the server of the first may be gone at once.
        supervisors = [s for s in servers if any("supervise" in word for word in s.cmdline())]
        assert supervisors
        for supervisor in supervisors:
            supervisor.kill()
        assert dev_cli.gone(servers)


def test_down_and_up_leave_the_servers_of_a_living_process_alone(data: Path) -> None:
    with dev_cli.owner(data, kafka=False, postgres=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        for command in ("down", "up"):
            done = dev_cli.run(data, command)
            assert done.returncode == 1
            assert f"belong to process {process.pid}" in done.stderr
        assert dev_cli.run(data, "status").returncode == 0
