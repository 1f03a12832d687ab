"""Names of metrics need a worker that is built; only the one that is scraped needs a broker."""

import pytest

from tests.support.worker import environment


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a worker whose broker is never asked."""
    for name, value in environment("127.0.0.1:9", "").items():
        monkeypatch.setenv(name, value)
