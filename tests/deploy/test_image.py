"""The Dockerfile: linted, and held against the rest. No container engine has run it here."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from shipping.containerfile import Instruction, stages
from tests.deploy.files import ROOT, config_map, known_settings, settings_of


def values(stage: str, name: str) -> list[str]:
    return [one.value for one in stages()[stage] if one.name == name]


def words(stage: str, name: str) -> list[str]:
    return " ".join(values(stage, name)).split()


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert hadolint is not None
    done = subprocess.run(
        [hadolint, "--no-color", str(ROOT / "Dockerfile")], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_it_runs_as_a_user_without_a_name_or_rights() -> None:
    assert values("run", "USER") == ["10001:10001"]


def test_everything_is_installed_from_hashes_or_without_an_index() -> None:
    commands = [one.value for name in stages() for one in stages()[name] if one.name == "RUN"]
    steps = [step for command in commands for step in command.split("&&") if "pip" in step]
    fetching = [step for step in steps if " wheel " in step or " install " in step]
    assert len(fetching) == 4
    assert all("--require-hashes" in step or "--no-index" in step for step in fetching)


def test_no_registry_is_named() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert "index-url" not in text
    assert "://" not in text


def test_what_runs_comes_from_the_install_stage_alone() -> None:
    copied = [one for one in stages()["run"] if one.name in ("COPY", "ADD")]
    assert copied == [Instruction("COPY", "--from=install /venv /venv")]


def test_all_packages_of_the_wheel_and_the_locks_are_in_the_context() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    copied = words("fetch", "COPY")
    allowed = (ROOT / ".dockerignore").read_text().split()
    assert allowed[0] == "*"
    for name in packages:
        assert name in copied
        assert f"!{name}" in allowed
    for name in copied:
        assert (ROOT / name).exists() or list(ROOT.glob(name)), name
        assert name == "./" or f"!{name.split('/')[0]}" in allowed


def test_signals_reach_the_worker_itself() -> None:
    assert values("run", "ENTRYPOINT") == ['["billing-stream"]']
    assert values("run", "CMD") == ['["worker"]']
    assert values("run", "STOPSIGNAL") == ["SIGTERM"]


def test_its_ports_and_variables_are_those_of_the_settings() -> None:
    found = settings_of({**config_map(), "APP_ENV": "test"})
    ports = {*(port for _, port in found.addresses), found.projector_port}
    assert set(words("run", "EXPOSE")) == {str(port) for port in ports}
    names = {word.split("=")[0] for word in words("run", "ENV") if "=" in word}
    assert {name for name in names if name.startswith("BILLING")} <= known_settings()
    assert "BILLING_DATA_DIR=/data" in words("run", "ENV")
    assert values("run", "VOLUME") == ["/data"]


def test_its_labels_tell_the_version() -> None:
    assert "--build-arg VERSION=$$version" in (ROOT / "Makefile").read_text()
    assert "VERSION=unknown" in words("run", "ARG")
    assert 'org.opencontainers.image.version="${VERSION}"' in words("run", "LABEL")


def test_its_health_check_asks_whether_it_lives() -> None:
    (check,) = values("run", "HEALTHCHECK")
    assert check.endswith('CMD ["python", "-m", "billing_stream.observability.probe", "health"]')
