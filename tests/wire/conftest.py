"""One secured broker for these tests."""

from collections.abc import Iterator

import pytest

from tests.support.secured import SecuredKafka, secured_kafka


@pytest.fixture(scope="package")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    """A real broker with an authorizer, reached with passwords or certificates."""
    with secured_kafka(tmp_path_factory.mktemp("secured")) as made:
        yield made
