"""Kafka in a container, for `--kafka=docker`, where a Docker engine answers."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from testcontainers.core.container import DockerContainer

from tests.support.ports import free_port

IMAGE = "apache/kafka:4.4.0"


@contextmanager
def kafka_container() -> Iterator[str]:
    """A broker in a container; yields host:port. The port is the same inside and outside,
    for a broker tells its clients the address that they must come back to."""
    port = free_port()
    settings = {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_LISTENERS": f"PLAINTEXT://:{port},CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS": "1000",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
    }
    container = DockerContainer(IMAGE).with_bind_ports(port, port)
    for name, value in settings.items():
        container = container.with_env(name, value)
    with container:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if b"Kafka Server started" in container.get_logs()[0]:
                break
            time.sleep(0.2)
        yield f"127.0.0.1:{port}"
