"""A data folder for servers, and the certainty that nothing of it runs after the test."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import dev_cli


@pytest.fixture
def data() -> Iterator[Path]:
    """A data folder of this test alone. Every user can enter it, as a normal work tree."""
    base = Path(tempfile.mkdtemp(prefix="billing-stream-test-"))
    base.chmod(0o755)
    yield base / "data"
    dev_cli.run(base / "data", "down", "--delete")
    shutil.rmtree(base)
