"""Where the Java peer cannot be built, the reason is given and the others are measured."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.peers import java
from bench.peers.usage import jit_seconds

Programs = Callable[..., None]


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """Put programs on an otherwise empty PATH: each a name and the lines of its script."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("BILLING_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "bin").mkdir()

    def put(**scripts: str) -> None:
        for name, script in scripts.items():
            path = tmp_path / "bin" / name
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)

    return put


def reason() -> str:
    with pytest.raises(java.Unavailable) as raised:
        java.build()
    return str(raised.value)


def test_no_jdk_is_a_reason_to_skip(programs: Programs) -> None:
    programs(mvn="exit 0")

    assert reason() == "a JDK of Java 17 or later is not installed"


def test_an_old_jdk_is_a_reason_to_skip(programs: Programs) -> None:
    programs(mvn="exit 0", javac="echo javac 1.8.0_392 >&2")

    assert reason() == "the JDK is javac 1.8.0_392, and Java 17 is needed"


def test_no_maven_is_a_reason_to_skip(programs: Programs) -> None:
    programs(javac="echo javac 17.0.15")

    assert reason() == "Maven (`mvn`) is not installed"


def test_jars_that_cannot_be_downloaded_are_a_reason_to_skip(
    programs: Programs, capsys: pytest.CaptureFixture[str]
) -> None:
    programs(javac="echo javac 21.0.1", mvn="echo no route to repository.example; exit 1")

    assert reason() == "Maven could not download the jars or compile: see stderr"
    # A report may be published; what Maven printed names hosts and folders.
    assert "repository.example" in capsys.readouterr().err


def test_changed_sources_are_compiled_into_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = java.class_path()
    for path in java.SOURCES.rglob("*"):
        copy = tmp_path / path.relative_to(java.SOURCES)
        if path.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    monkeypatch.setattr(java, "SOURCES", tmp_path)
    same = java.class_path()
    next(tmp_path.rglob("Billing.java")).write_text("class Billing {}")

    assert before == same != java.class_path()


def test_build_file_pins_versions_and_names_no_registry() -> None:
    pom = (java.SOURCES / "pom.xml").read_text()
    versions = re.findall(r"version>([^<\s]+)</", pom)

    assert "://" not in pom
    assert "repositor" not in pom.lower()
    assert all(re.fullmatch(r"[\d.]+|\$\{\w+\.version\}", one) for one in versions), versions
    for line in java.JARS.read_text().splitlines():
        assert re.fullmatch(r"[0-9a-f]{64}  [\w.-]+\.jar", line)


def test_jit_seconds_are_those_of_the_compiler_threads(tmp_path: Path) -> None:
    for number, name in enumerate(
        ("C2 CompilerThre", "C1 CompilerThre", "a) C2 (b", "GC Thread#0")
    ):
        (tmp_path / str(number)).mkdir()
        stat = f"{number} ({name}) S 1 1 1 0 -1 0 0 0 0 0 150 50 0 0 20"
        (tmp_path / str(number) / "stat").write_text(stat)

    assert jit_seconds(tmp_path) == 4.0
