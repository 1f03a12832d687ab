"""`billing-stream config`, the `.env` file and the example of one."""

import json
import os
import re
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from billing_stream.cli import cli
from billing_stream.config import settings_reference
from billing_stream.config.env_file import ENV_FILE, env_file
from billing_stream.config.settings import Settings
from billing_stream.config.settings_reference import fields
from billing_stream.errors import SettingsError

ROOT = Path(__file__).parent.parent.parent
SECRET = "a-secret-that-must-never-be-shown-0123"
FILE = f"""\
APP_ENV=test
KAFKA_BOOTSTRAP_SERVERS=file:9092
CLIENT_JWT_SECRET={SECRET}
BILLING_DRAIN_DELAY=500ms
"""


@pytest.fixture
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No variable of ours, and an empty current folder, which is returned."""
    known = {str(field.validation_alias) for field in Settings.model_fields.values()}
    for name in [*os.environ]:
        if name in known or name.startswith("BILLING_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def with_file(nothing_set: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `.env`, and one secret and one correction in the environment."""
    (nothing_set / ".env").write_text(FILE)
    monkeypatch.setenv("INTERNAL_JWT_SECRET", SECRET)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "outside:9092")
    return nothing_set


def config(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["config", *arguments])


def test_environment_overrides_file_and_file_overrides_default(
    with_file: Path,
) -> None:
    shown = json.loads(config("--json").stdout)

    assert shown["KAFKA_BOOTSTRAP_SERVERS"] == {"value": "outside:9092", "source": "environment"}
    assert shown["BILLING_DRAIN_DELAY"] == {"value": "500ms", "source": "file"}
    assert shown["BILLING_PARTITIONS"] == {"value": "8", "source": "default"}
    assert shown["DATABASE_URL"] == {"value": None, "source": "default"}
    assert Settings.from_env().drain_delay == timedelta(milliseconds=500)


def test_every_setting_is_shown_and_no_secret(with_file: Path) -> None:
    done = config()
    assert done.exit_code == 0
    lines = [line.split() for line in done.stdout.splitlines() if not line.startswith("pack")]
    assert [line[0] for line in lines] == [
        str(field.validation_alias) for field in fields().values()
    ]
    assert ["CLIENT_JWT_SECRET", ".env", "********"] in lines
    assert ["INTERNAL_JWT_SECRET", "environment", "********"] in lines
    assert SECRET not in done.output


def test_only_what_is_no_default_can_be_asked_for(with_file: Path) -> None:
    names = [line.split()[0] for line in config("--changed").stdout.splitlines()]
    assert names == [
        "APP_ENV",
        "KAFKA_BOOTSTRAP_SERVERS",
        "CLIENT_JWT_SECRET",
        "INTERNAL_JWT_SECRET",
        "BILLING_DRAIN_DELAY",
    ]


def test_all_that_is_wrong_is_named_without_its_value(
    with_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTERNAL_JWT_SECRET", "short")
    monkeypatch.setenv("BILLING_PARTITIONS", "many")

    error = config().exception

    assert isinstance(error, SettingsError), "main() makes exit code 2 of it"
    assert "INTERNAL_JWT_SECRET" in str(error)
    assert "BILLING_PARTITIONS" in str(error)
    assert "short" not in str(error)
    assert "many" not in str(error)


def test_a_mistyped_name_is_told_with_the_one_that_was_meant(
    with_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BILLING_PARTITION", "8")
    (with_file / ".env").write_text(FILE + "BILLING_NOTHING_LIKE_IT_AT_ALL=1\n")
    told = config().stderr.splitlines()
    assert "BILLING_PARTITION is not a setting: BILLING_PARTITIONS?" in told
    assert any(line.startswith("BILLING_NOTHING_LIKE_IT_AT_ALL is not a setting") for line in told)


def test_an_empty_value_is_as_none(with_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "")
    monkeypatch.setenv("BILLING_PARTITIONS", "")
    shown = json.loads(config("--json").stdout)
    assert shown["DATABASE_URL"] == {"value": None, "source": "default"}
    assert shown["BILLING_PARTITIONS"] == {"value": "8", "source": "default"}


def test_another_file_can_be_named_or_none(
    with_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (with_file / "other").write_text(FILE.replace("500ms", "7s"))
    monkeypatch.setenv(ENV_FILE, str(with_file / "other"))
    assert Settings.from_env().drain_delay == timedelta(seconds=7)

    monkeypatch.setenv(ENV_FILE, "")
    assert env_file() is None
    with pytest.raises(SettingsError, match="APP_ENV"):
        Settings.from_env()

    monkeypatch.setenv(ENV_FILE, str(with_file / "not-there"))
    with pytest.raises(SettingsError, match="there is no file"):
        Settings.from_env()


def test_a_file_that_is_no_text_is_an_error_with_its_name(with_file: Path) -> None:
    (with_file / ".env").write_bytes(b"APP_ENV=\xff\xfe\n")
    with pytest.raises(SettingsError, match=r"\.env: cannot be read"):
        Settings.from_env()


def test_the_example_is_made_from_the_settings() -> None:
    assert (ROOT / ".env.example").read_text() == settings_reference.env_example()


def test_uncommented_example_equals_the_defaults(
    nothing_set: Path,
) -> None:
    example = settings_reference.env_example()
    filled = {
        "APP_ENV": "test",
        "KAFKA_BOOTSTRAP_SERVERS": "x:1",
        "CLIENT_JWT_SECRET": SECRET,
        "INTERNAL_JWT_SECRET": SECRET,
    }
    plain = "".join(f"{name}={value}\n" for name, value in filled.items())
    for name, value in filled.items():
        example = re.sub(rf"^{name}=$", f"{name}={value}", example, flags=re.MULTILINE)

    (nothing_set / ".env").write_text(plain)
    by_default = Settings.from_env()
    (nothing_set / ".env").write_text(re.sub(r"^# ([A-Z_]+=)", r"\1", example, flags=re.MULTILINE))
    assert Settings.from_env() == by_default


def test_the_example_with_nothing_filled_in_names_what_is_required(nothing_set: Path) -> None:
    (nothing_set / ".env").write_text(settings_reference.env_example())
    with pytest.raises(SettingsError) as error:
        Settings.from_env()
    required = [f for f in Settings.model_fields.values() if f.is_required()]
    assert all(str(field.validation_alias) in str(error.value) for field in required)


def test_a_real_env_file_can_not_be_committed_or_built_into_the_image() -> None:
    assert ".env" in (ROOT / ".gitignore").read_text().split()
    assert (ROOT / ".dockerignore").read_text().split()[0] == "*"


def test_a_store_on_disk_is_refused_with_what_to_do(
    with_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BILLING_STORE_CACHE_MB", "32")
    monkeypatch.setenv("BILLING_STORE", "memory")
    assert config().exit_code == 0

    monkeypatch.setenv("BILLING_STORE", "rocksdb")
    for command in ("worker", "doctor", "config"):
        refused = CliRunner().invoke(cli, [command]).exception
        assert isinstance(refused, SettingsError)
        assert refused.exit_code == 2
        assert "BILLING_STORE can only be memory" in str(refused)
        assert "remove BILLING_STORE and BILLING_STORE_CACHE_MB" in str(refused)


@pytest.mark.parametrize("text", ["x", "-1", "0", "99999999999", "1.5", "\x1b[2J"])
def test_a_wrong_value_of_any_setting_is_told_in_words_of_our_own(
    text: str, with_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {str(field.validation_alias) for field in Settings.model_fields.values()}
    for name in names:
        monkeypatch.setenv(name, text)

    error = config().exception

    assert isinstance(error, SettingsError)
    assert sum(name in str(error) for name in names) > 20
    for words in ("Input should", "unable to", "pydantic", "regex", "pattern '", "type="):
        assert words not in str(error), str(error)


def test_where_the_database_is_is_shown_and_its_password_is_not(
    with_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:not-to-be-seen@db.example:5433/billing")

    done = config("--json")

    value = json.loads(done.stdout)["DATABASE_URL"]["value"]
    assert value == "postgresql://********@db.example:5433/billing"
    assert "not-to-be-seen" not in done.stdout
