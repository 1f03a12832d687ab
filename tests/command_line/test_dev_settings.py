"""Commands find the servers and secrets of `dev up` and `dev start` by themselves."""

import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from billing_stream.cli import cli
from billing_stream.config.env_file import ENV_FILE, settings_in_files
from billing_stream.config.settings import Settings
from billing_stream.dev import dev_environment

ADDRESSES = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9", "DATABASE_URL": "postgresql://here/billing"}


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """What `dev up` wrote in the current folder; nothing else is set."""
    for name in (ENV_FILE, "APP_ENV", "BILLING_DATA_DIR", *ADDRESSES, *dev_environment.SECRETS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".data").mkdir()
    return dev_environment.write(tmp_path / ".data", ADDRESSES)


def test_settings_of_the_development_servers_are_found(written: dict[str, str]) -> None:
    settings = Settings.from_env()
    assert settings.kafka_bootstrap_servers == ADDRESSES["KAFKA_BOOTSTRAP_SERVERS"]
    assert settings.app_env == "development"
    assert settings.client_jwt_secret.get_secret_value() == written["CLIENT_JWT_SECRET"]


def test_their_file_is_for_its_user_only_and_is_named(written: dict[str, str]) -> None:
    file = Path(".data/dev.env").absolute()
    assert file.stat().st_mode & 0o077 == 0
    shown = CliRunner().invoke(cli, ["config", "--changed"]).stdout
    assert f"{file}  development" in shown
    assert written["CLIENT_JWT_SECRET"] not in shown


def test_a_setting_of_ones_own_takes_precedence(
    written: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(".env").write_text(
        "CLIENT_JWT_SECRET=one-of-my-own-0123456789abcdef0123\nTRIAL_CREDITS=7\n"
    )
    monkeypatch.setenv("TRIAL_CREDITS", "8")
    settings = Settings.from_env()
    assert settings.client_jwt_secret.get_secret_value().startswith("one-of-my-own")
    assert settings.trial_credits == 8
    assert settings.kafka_bootstrap_servers == ADDRESSES["KAFKA_BOOTSTRAP_SERVERS"]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("KAFKA_BOOTSTRAP_SERVERS", "broker:9092"),
        ("APP_ENV", "production"),
        (ENV_FILE, ""),
    ],
)
@pytest.mark.parametrize("where", ["environment", "file"])
def test_a_service_set_up_for_other_servers_gets_nothing_of_them(
    written: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    where: str,
) -> None:
    if where == "environment" or variable == ENV_FILE:
        monkeypatch.setenv(variable, value)
    else:
        Path(".env").write_text(f"{variable}={value}\n")
    assert not set(settings_in_files()) & set(dev_environment.SECRETS)


def test_secrets_stay_until_the_servers_stop(written: dict[str, str]) -> None:
    folder = Path(".data")
    assert dev_environment.write(folder, ADDRESSES) == written
    dev_environment.remove(folder)
    assert not (folder / "dev.env").exists()
    assert dev_environment.write(folder, ADDRESSES) != written


def test_a_port_in_use_is_named_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        env = {"BILLING_DATA_DIR": str(tmp_path / "data")}
        done = CliRunner().invoke(cli, ["dev", "start", "--port", str(port)], env=env)
    assert done.exit_code == 2
    assert f"port {port} is in use: choose another with --port" in done.stderr
    assert not (tmp_path / "data").exists()
