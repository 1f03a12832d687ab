"""The settings that `dev up` and `dev start` leave for all later commands, in `dev.env`."""

import os
import secrets
import shlex
from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values

from billing_stream.config.env_file import DEV_ENV_FILE, DEVELOPMENT

# Made here, good for one folder and as long as its servers run.
SECRETS = ("CLIENT_JWT_SECRET", "INTERNAL_JWT_SECRET", "CUSTOM_GATEWAY_SECRET")


def write(data_dir: Path, addresses: Mapping[str, str]) -> dict[str, str]:
    """Write the file, and return what it says: `addresses` of servers, and secrets.

    Secrets that it has already are kept: tokens that were signed with them stay valid.
    """
    file = data_dir / DEV_ENV_FILE
    known = dotenv_values(file) if file.exists() else {}
    made = {name: known.get(name) or secrets.token_hex(32) for name in SECRETS}
    found = {"APP_ENV": DEVELOPMENT, **addresses, **made}
    unfinished = file.with_suffix(".unfinished")
    with open(unfinished, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as output:
        output.writelines(f"{name}={shlex.quote(value)}\n" for name, value in found.items())
    unfinished.replace(file)
    return found


def remove(data_dir: Path) -> None:
    """Delete the file: nothing that it names runs any more."""
    (data_dir / DEV_ENV_FILE).unlink(missing_ok=True)
