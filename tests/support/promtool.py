"""Prometheus' own checker of rules and settings, from Debian's package: nothing is installed."""

import os
import shutil
import subprocess
from pathlib import Path

from billing_stream.dev.cache import cached

# Debian's own, wherever else the PATH looks.
SYSTEM = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin:/sbin:/bin"}


def promtool() -> Path:
    """The program: one on the PATH, or one that is fetched once and kept."""
    found = shutil.which("promtool")
    return Path(found) if found else cached("promtool", "promtool", _fetch) / "usr/bin/promtool"


def _fetch(folder: Path) -> None:
    download = ["apt-get", "--quiet", "download", "prometheus"]
    if _done(download, folder).returncode:
        _run(["apt-get", "--quiet", "update"], folder)
        _run(download, folder)
    (package,) = folder.glob("prometheus_*.deb")
    _run(["dpkg-deb", "--extract", package.name, "."], folder)


def _run(command: list[str], folder: Path) -> None:
    done = _done(command, folder)
    if done.returncode:
        raise RuntimeError(f"promtool is fetched with {' '.join(command)}: {done.stderr}")


def _done(command: list[str], folder: Path) -> "subprocess.CompletedProcess[str]":
    program = shutil.which(command[0], path=SYSTEM["PATH"])
    if program is None:
        raise RuntimeError(f"there is no {command[0]}: install promtool and put it on the PATH")
    return subprocess.run(
        [program, *command[1:]], cwd=folder, env=SYSTEM, capture_output=True, text=True
    )
