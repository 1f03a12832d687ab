"""`billing-stream dev up`, `status` and `down`, with real servers."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support import dev_cli

pytestmark = pytest.mark.full

CLIENT = """
import asyncio, os, sys, asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

async def main(mode):
    servers = os.environ["KAFKA_BOOTSTRAP_SERVERS"]
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    if mode == "write":
        admin = AIOKafkaAdminClient(bootstrap_servers=servers)
        await admin.start()
        await admin.create_topics([NewTopic("kept", 1, 1)])
        await admin.close()
        producer = AIOKafkaProducer(bootstrap_servers=servers, transactional_id="kept")
        await producer.start()
        async with producer.transaction():
            await producer.send_and_wait("kept", b"of a transaction")
        await producer.stop()
        await connection.execute("CREATE TABLE kept AS SELECT 'of a query' AS what")
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, isolation_level="read_committed")
    await consumer.start()
    partition = TopicPartition("kept", 0)
    consumer.assign([partition])
    await consumer.seek_to_beginning(partition)
    record = await asyncio.wait_for(consumer.getone(), 10)
    await consumer.stop()
    print(record.value.decode(), "and", await connection.fetchval("SELECT what FROM kept"))
    await connection.close()

asyncio.run(main(sys.argv[1]))
"""


def client(environment: dict[str, str], mode: str) -> str:
    """What a client in another process finds there; it writes first, or only reads."""
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, mode],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def up(data: Path) -> dict[str, str]:
    """Both servers, started by `up`; the environment that it printed."""
    done = dev_cli.run(data, "up")
    assert done.returncode == 0, done.stderr
    return dev_cli.exported(done.stdout)


def state_of(folder: Path) -> dict[str, Any]:
    """The state file."""
    found: dict[str, Any] = json.loads((folder / "cluster.json").read_text())
    return found


def test_both_servers_live_on_and_keep_their_data_and_address(
    data: Path, up: dict[str, str]
) -> None:
    assert client(up, "write") == "of a transaction and of a query"

    began = time.monotonic()
    second = dev_cli.run(data, "up")
    assert dev_cli.exported(second.stdout) == up
    assert time.monotonic() - began < 10

    status = dev_cli.run(data, "status")
    assert status.returncode == 0, status.stdout
    assert status.stdout.count(" ready ") == 2

    processes = dev_cli.servers_of(data)
    assert len(processes) >= 2
    down = dev_cli.run(data, "down")
    assert down.stdout == "stopped kafka and postgres\n"
    assert dev_cli.gone(processes, 0)
    assert dev_cli.run(data, "status").returncode == 3

    third = dev_cli.run(data, "up")
    assert dev_cli.exported(third.stdout) == up
    assert client(up, "read") == "of a transaction and of a query"


def test_a_crashed_server_is_reported_and_up_brings_it_back(data: Path) -> None:
    before = dev_cli.run(data, "up", "--only", "postgres")
    pid = int(state_of(data)["processes"]["postgres"][0])
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.5)

    status = dev_cli.run(data, "status")
    assert status.returncode == 3
    assert "postgres  crashed" in status.stdout

    after = dev_cli.run(data, "up", "--only", "postgres")
    assert after.returncode == 0, after.stderr
    assert after.stdout == before.stdout


def test_two_ups_at_once_start_one_server_and_print_its_address(data: Path) -> None:
    first = dev_cli.start(data, "up", "--only", "kafka")
    second = dev_cli.start(data, "up", "--only", "kafka")
    outputs = [p.communicate(timeout=dev_cli.UP_SECONDS_MAX) for p in (first, second)]

    assert (first.returncode, second.returncode) == (0, 0), outputs
    assert outputs[0][0] == outputs[1][0]
    assert len(dev_cli.servers_of(data)) == 1


def test_an_interrupted_up_leaves_nothing_running(data: Path) -> None:
    process = dev_cli.start(data, "up", "--only", "kafka")
    while not dev_cli.servers_of(data):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    servers = dev_cli.servers_of(data)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=30)

    assert process.returncode != 0
    assert dev_cli.gone(servers)
    assert dev_cli.run(data, "status").returncode == 3


def test_what_a_killed_up_had_started_is_found_again(data: Path) -> None:
    process = dev_cli.start(data, "up", "--only", "kafka")
    while not (data / "cluster.json").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.kill()
    process.communicate(timeout=10)
    servers = dev_cli.servers_of(data)
    assert len(servers) == 1

    assert dev_cli.run(data, "down").stdout == "stopped kafka\n"
    assert dev_cli.gone(servers, 0)


def test_the_port_of_last_time_is_left_to_who_took_it(data: Path) -> None:
    before = dev_cli.run(data, "up", "--only", "postgres")
    dev_cli.run(data, "down")
    with socket.socket() as other:
        # As any server does: connections that have ended still hold the port for a while.
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", int(state_of(data)["ports"]["postgres"])))
        other.listen()
        after = dev_cli.run(data, "up", "--only", "postgres")

    assert after.returncode == 0, after.stderr
    assert after.stdout != before.stdout
