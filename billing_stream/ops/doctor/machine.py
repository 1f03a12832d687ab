"""This machine and its settings."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from billing_stream.config.config_cli import unknown
from billing_stream.config.settings import AppEnv, Settings
from billing_stream.ops.doctor.finding import Finding, fail, ok, warn

FREE_BYTES_MIN = 1 << 30
REPLICAS_MIN = 3


def check_settings(settings: Settings, names: list[str]) -> Iterator[Finding]:
    """What is allowed, and still hardly meant. `names`: of all variables that are set."""
    check = "settings"
    strange = unknown(names)
    for name, meant in strange.items():
        action = f"did you mean {meant}?" if meant else "remove it: see billing-stream config"
        yield warn(check, f"{name} is no setting", action)
    real = settings.app_env in (AppEnv.STAGING, AppEnv.PRODUCTION)
    if set(settings.client_jwt_secrets) & set(settings.internal_jwt_secrets):
        yield (fail if real else warn)(
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
    if real and not settings.kafka_tls:
        yield warn(check, "Kafka without TLS", "see docs/security.md")
    yield ok(check, f"APP_ENV={settings.app_env}, {settings.partitions} partitions")


def check_disk(settings: Settings) -> Iterator[Finding]:
    """The folder of the data: it can be written, and there is room."""
    check = "data folder"
    folder = _nearest(settings.data_dir.absolute())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        yield fail(
            check,
            f"{folder} is no folder that this user can write",
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
