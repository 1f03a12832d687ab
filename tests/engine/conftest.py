"""Brokers of either version of the transaction protocol."""

from collections.abc import Iterator

import pytest

from billing_stream.dev.kafka import Kafka
from tests.support.ports import free_port


@pytest.fixture(scope="module")
def kafka_without_the_feature(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker of a cluster that has not finalized `transaction.version`, as older ones."""
    folder = tmp_path_factory.mktemp("kafka")
    port = free_port()
    kafka = Kafka(
        folder / "kafka",
        folder / "kafka.log",
        port,
        free_port(),
        format_options=("--feature", "transaction.version=0"),
    )
    kafka.start()
    yield kafka.bootstrap_servers
    kafka.stop()


@pytest.fixture(params=["version 1", "of the cluster"])
def servers(request: pytest.FixtureRequest) -> str:
    """Both protocols, where the cluster of the tests speaks the second."""
    name = "kafka_without_the_feature" if request.param == "version 1" else "kafka"
    found: str = request.getfixturevalue(name)
    return found
