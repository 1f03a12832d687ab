"""Short-lived brokers start with little compiling; measured ones compile all they can."""

from pathlib import Path
from typing import Any

import pytest

from billing_stream.dev.kafka import Kafka

QUICK = {"-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"}


def command_of(folder: Path, **options: Any) -> set[str]:
    """The words of the command that runs a broker."""
    return set(Kafka(folder, folder / "kafka.log", 20_000, 20_001, **options).command())


@pytest.mark.parametrize("options", [{}, {"jvm": "quick"}])
def test_quick_broker_by_default_uses_first_compiler_only(
    options: dict[str, str], tmp_path: Path
) -> None:
    assert command_of(tmp_path, **options) >= QUICK | {"kafka.Kafka"}


def test_steady_broker_uses_all_compilers(tmp_path: Path) -> None:
    found = command_of(tmp_path, jvm="steady")

    assert "kafka.Kafka" in found
    assert not found & QUICK
