"""Where settings are read from, next to the environment."""

import os
from collections.abc import Iterator
from pathlib import Path

from dotenv import dotenv_values

from billing_stream.errors import SettingsError

ENV_FILE = "BILLING_ENV_FILE"
BROKERS = "KAFKA_BOOTSTRAP_SERVERS"
# In the data folder, as long as the servers of `dev up` or `dev start` run.
DEV_ENV_FILE = "dev.env"
DEVELOPMENT = "development"


def data_dir() -> Path:
    """BILLING_DATA_DIR of the environment, else `.data` in the current folder."""
    return Path(os.environ.get("BILLING_DATA_DIR") or ".data").absolute()


def env_file() -> Path | None:
    """The file with settings: `.env` in the current folder, or what BILLING_ENV_FILE names.

    None when that is empty. Raises SettingsError when it names no file.
    """
    named = os.environ.get(ENV_FILE)
    if named == "":
        return None
    if named is not None and not Path(named).is_file():
        raise SettingsError(f"{ENV_FILE}: there is no file {named}")
    return Path(named or ".env")


def env_files() -> list[Path]:
    """The files that settings are read from; a later one takes precedence.

    The first is that of the development servers, where no other says which brokers to use.
    Raises SettingsError as `env_file` does.
    """
    return [path for path in (_dev_env_file(), env_file()) if path is not None]


def settings_in_files() -> dict[str, tuple[str | None, Path]]:
    """What the files say, by variable, and which of them says it. Raises as `env_file` does."""
    return dict(_settings_in(env_files()))


def _settings_in(files: list[Path]) -> Iterator[tuple[str, tuple[str | None, Path]]]:
    for file in files:
        if file.is_file():
            for name, value in dotenv_values(file).items():
                yield name, (value, file)


def _dev_env_file() -> Path | None:
    path = data_dir() / DEV_ENV_FILE
    if ENV_FILE in os.environ or not path.is_file():
        return None
    known = {name: value for name, (value, _) in _settings_in([Path(".env")])} | os.environ
    # A service that is set up for something else must not get settings of these servers.
    if known.get(BROKERS) or (known.get("APP_ENV") or DEVELOPMENT) != DEVELOPMENT:
        return None
    return path
