"""This machine and its settings."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import parse_qs, urlsplit

from pydantic import SecretStr

from billing_stream.config.config_cli import unknown
from billing_stream.config.file_modes import readable_by_others
from billing_stream.config.listener_settings import Listener
from billing_stream.config.production_checks import is_loopback
from billing_stream.config.settings import Settings
from billing_stream.ops.doctor.finding import Finding, fail, ok, warn

FREE_BYTES_MIN = 1 << 30
REPLICAS_MIN = 3


def check_settings(settings: Settings, names: list[str]) -> Iterator[Finding]:
    """Settings that are allowed, and probably not meant. `names`: of all variables that are set."""
    check = "settings"
    strange = unknown(names)
    for name, meant in strange.items():
        action = f"did you mean {meant}?" if meant else "remove it: see billing-stream config"
        yield warn(check, f"{name} is not a setting", action)
    for path in readable_by_others(settings):
        yield warn(check, f"{path} can be read by others", f"chmod 600 {path}")
    real = settings.is_real
    if set(settings.client_jwt_secrets) & set(settings.internal_jwt_secrets):
        yield warn(
            check,
            "CLIENT_JWT_SECRET and INTERNAL_JWT_SECRET are the same: clients can sign as operators",
            "give INTERNAL_JWT_SECRET a value of its own",
        )
    if real and settings.replication_factor < REPLICAS_MIN:
        yield warn(
            check,
            f"{settings.app_env} with {settings.replication_factor} replicas: one disk can lose "
            "credits",
            f"make topics with BILLING_REPLICATION_FACTOR={REPLICAS_MIN}",
        )
    if real and settings.client_token_max_lifetime is None:
        yield warn(
            check,
            "clients' tokens may be valid without a limit",
            "set CLIENT_TOKEN_MAX_LIFETIME to what their issuer gives them",
        )
    if real and settings.old_peer_tokens:
        yield warn(
            check,
            "workers accept tokens of 0.5.x, which are good for any call for a minute",
            "set BILLING_PEER_TOKENS=new when no worker of 0.5.x runs: "
            "`billing-stream docs upgrade`",
        )
    public = settings.addresses[settings.address_of(Listener.PUBLIC)]
    if real and len(public) > 1:
        others = " and ".join(sorted(public - {Listener.PUBLIC}))
        yield warn(
            check,
            f"the public listener serves {others}, too",
            "set other ports for them, or have a proxy pass on /api and /webhooks alone",
        )
    if real and not settings.kafka_tls:
        yield warn(check, "Kafka without TLS", "see `billing-stream docs security`")
    if real and settings.database_url is not None and not _is_verified(settings.database_url):
        yield warn(
            check,
            "PostgreSQL is not verified: DATABASE_URL has no sslmode=verify-full",
            "see `billing-stream docs security`",
        )
    yield ok(check, f"APP_ENV={settings.app_env}, {settings.partitions} partitions")


def _is_verified(url: SecretStr) -> bool:
    """Whether PostgreSQL is on this machine, or must show a certificate."""
    try:
        parts = urlsplit(url.get_secret_value())
    except ValueError:
        return False
    mode = parse_qs(parts.query).get("sslmode", [""])[-1]
    return mode == "verify-full" or not parts.hostname or is_loopback(parts.hostname)


def check_disk(settings: Settings) -> Iterator[Finding]:
    """The folder of the data: it can be written, and there is room."""
    check = "data folder"
    folder = _nearest(settings.data_dir.absolute())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        yield fail(
            check,
            f"{folder} is not a folder that this user can write",
            "set BILLING_DATA_DIR to a folder of its own, or give it to this user",
        )
        return
    try:
        # A file system can refuse what its rights allow.
        with TemporaryDirectory(prefix=".billing-stream-doctor-", dir=folder):
            pass
    except OSError as error:
        yield fail(
            check,
            f"{settings.data_dir} cannot be made: {error.strerror}",
            "set BILLING_DATA_DIR to a folder of its own, or give it to this user",
        )
        return
    free = shutil.disk_usage(folder).free
    message = f"{settings.data_dir}: {free / (1 << 30):.1f} GiB free"
    if free < FREE_BYTES_MIN:
        yield warn(check, message, "make room: less than 1 GiB is left")
    else:
        yield ok(check, message)


def _nearest(folder: Path) -> Path:
    """The folder, or the one in which it would be made."""
    return next(f for f in (folder, *folder.parents) if f.exists())
