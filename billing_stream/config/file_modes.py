"""Files with secrets that other users of the machine can read."""

import stat
from collections.abc import Iterator
from pathlib import Path

from billing_stream.config.env_file import env_files
from billing_stream.config.settings import Settings

_OTHERS = stat.S_IROTH | stat.S_IWOTH


def readable_by_others(settings: Settings) -> Iterator[Path]:
    """Those of the file of settings, the access tokens of shops and the key for Kafka."""
    files = (*env_files(), settings.shopify_access_tokens_file, settings.kafka_ssl_keyfile)
    for path in files:
        try:
            if path is not None and path.is_file() and path.stat().st_mode & _OTHERS:
                yield path
        except OSError:
            # Whoever reads it says so.
            continue


def warnings_of(settings: Settings) -> Iterator[str]:
    """A warning for each, which says what to do."""
    for path in readable_by_others(settings):
        yield f"{path} can be read by others, and has secrets in it: chmod 600 {path}"
