"""Prometheus' own checker of rules and settings, from Debian's package: nothing is installed."""

import shutil
import subprocess
from pathlib import Path

from billing_stream.dev.cache import cached


def promtool() -> Path:
    """The program: one on the PATH, or one that is fetched once and kept."""
    found = shutil.which("promtool")
    return Path(found) if found else cached("promtool", "promtool", _fetch) / "usr/bin/promtool"


def _fetch(folder: Path) -> None:
    download = ["apt-get", "--quiet", "download", "prometheus"]
    if subprocess.run(download, cwd=folder, capture_output=True).returncode:
        _run(["apt-get", "--quiet", "update"], folder)
        _run(download, folder)
    (package,) = folder.glob("prometheus_*.deb")
    _run(["dpkg-deb", "--extract", package.name, "."], folder)


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"promtool is fetched with {' '.join(command)}: {done.stderr}")
