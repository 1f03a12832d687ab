"""What a crash, or another program, may have left in the data folder."""

import os
import time
from pathlib import Path

import psutil
import pytest

from billing_stream.dev.cluster import Cluster
from billing_stream.dev.kafka import new_id
from billing_stream.dev.server_process import _PORTS, free_port
from tests.support import dev_cli


def write_state(folder: Path, text: str) -> None:
    """A state file as it may have been left."""
    folder.mkdir(parents=True)
    (folder / "cluster.json").write_text(text)


def test_a_pid_that_another_process_has_now_is_not_taken_for_the_server(data: Path) -> None:
    old = psutil.Process().create_time() - 3600
    write_state(data, f'{{"processes": {{"kafka": [{os.getpid()}, {old}]}}, "ports": {{}}}}')

    assert Cluster(data).running() == {}
    assert dev_cli.run(data, "status").returncode == 3
    assert dev_cli.run(data, "down").stdout == "nothing was running\n"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"processes": {}}'])
def test_a_state_file_cut_short_is_as_none(text: str, data: Path) -> None:
    write_state(data, text)

    assert Cluster(data).running() == {}


@pytest.mark.parametrize(("known", "asked"), [(3, 1), (1, 3)])
def test_another_number_of_brokers_than_the_data_is_of_is_refused(
    known: int, asked: int, data: Path
) -> None:
    write_state(data, f'{{"brokers": {known}}}')

    done = dev_cli.run(data, "up", "--brokers", str(asked))

    assert done.returncode == 1
    assert f"is of {known} broker" in done.stderr
    assert "dev down --delete" in done.stderr
    assert [path.name for path in data.iterdir() if path.is_dir()] == []


def test_without_a_number_as_many_brokers_as_the_data_is_of(data: Path) -> None:
    assert len(Cluster(data).brokers.nodes) == 1
    assert len(Cluster(data, brokers=3).brokers.nodes) == 3

    write_state(data, '{"brokers": 3}')

    assert len(Cluster(data).brokers.nodes) == 3


def test_half_made_data_folders_are_made_again(data: Path) -> None:
    (data / "postgres" / "data" / "base").mkdir(parents=True)
    (data / "postgres" / "data" / "PG_VERSION").write_text("1")

    with Cluster(data, kafka=False, postgres=True) as cluster:
        assert list(cluster.running()) == ["postgres"]


def test_delete_leaves_what_is_not_ours(data: Path) -> None:
    (data / "kafka").mkdir(parents=True)
    (data / "letters").mkdir()
    (data / "letters" / "to-mum.txt").write_text("dear")

    Cluster(data).down(delete=True)

    assert [path.name for path in data.iterdir()] == ["letters"]
    assert (data / "letters" / "to-mum.txt").read_text() == "dear"


def test_ports_are_outside_the_range_of_outgoing_connections() -> None:
    """A client retrying a dead server there can connect to itself and keep the port."""
    first = free_port()

    assert first in _PORTS
    assert free_port({first}) != first


def test_no_cluster_id_looks_like_an_option() -> None:
    assert not any(new_id().startswith("-") for _ in range(2_000))


def test_making_a_cluster_starts_and_writes_nothing(data: Path) -> None:
    began = time.monotonic()
    Cluster(data, kafka=True, postgres=True)

    assert not data.exists()
    assert time.monotonic() - began < 1
