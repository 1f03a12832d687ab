"""Where settings are read from beside the environment."""

import os
from pathlib import Path

from billing_stream.errors import SettingsError

ENV_FILE = "BILLING_ENV_FILE"


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
