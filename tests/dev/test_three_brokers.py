"""`billing-stream dev up --brokers 3`: three real brokers that are one cluster."""

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.support import dev_cli

pytestmark = [pytest.mark.clusters, pytest.mark.timeout(600)]


async def write(servers: str) -> list[dict[str, list[int]]]:
    """Commit a record in a new topic with three replicas; all topics' partitions."""
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic("kept", 1, 3)])
        async with (
            AIOKafkaProducer(
                bootstrap_servers=servers, transactional_id="kept", acks="all"
            ) as producer,
            producer.transaction(),
        ):
            await producer.send_and_wait("kept", b"of three")
        return [part for topic in await admin.describe_topics() for part in topic["partitions"]]
    finally:
        await admin.close()


async def read(servers: str) -> bytes:
    """The first record."""
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, isolation_level="read_committed")
    await consumer.start()
    try:
        consumer.assign([TopicPartition("kept", 0)])
        consumer.seek(TopicPartition("kept", 0), 0)
        value: bytes = (await asyncio.wait_for(consumer.getone(), 60)).value
        return value
    finally:
        await consumer.stop()


def test_three_brokers_keep_their_data_through_a_kill_and_a_restart(data: Path) -> None:
    first = dev_cli.run(data, "up", "--only", "kafka", "--brokers", "3")
    assert first.returncode == 0, first.stderr
    environment = dev_cli.exported(first.stdout)
    servers = environment["KAFKA_BOOTSTRAP_SERVERS"]
    assert len(set(servers.split(","))) == 3
    assert environment["BILLING_REPLICATION_FACTOR"] == "3"
    partitions = asyncio.run(write(servers))
    # Kafka's own topics, of offsets and transactions, among them.
    assert len(partitions) > 20
    assert {len(partition["replicas"]) for partition in partitions} == {3}

    pid = int(json.loads((data / "cluster.json").read_text())["processes"]["kafka-1"][0])
    os.killpg(pid, signal.SIGKILL)
    assert asyncio.run(read(servers)) == b"of three"
    status = dev_cli.run(data, "status")
    assert status.returncode == 3
    assert "kafka-1   crashed" in status.stdout
    assert "kafka-2   ready" in status.stdout

    second = dev_cli.run(data, "up", "--only", "kafka")
    assert (second.returncode, second.stdout) == (0, first.stdout), second.stderr

    down = dev_cli.run(data, "down")
    assert down.stdout == "stopped kafka-1 and kafka-2 and kafka-3\n"
    third = dev_cli.run(data, "up", "--only", "kafka")
    assert (third.returncode, third.stdout) == (0, first.stdout), third.stderr
    assert asyncio.run(read(servers)) == b"of three"
