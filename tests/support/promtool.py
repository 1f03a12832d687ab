"""Checkers of Prometheus and Alertmanager, from Debian's packages: nothing is installed."""

import os
import shutil
import subprocess
from pathlib import Path

from billing_stream.dev.cache import cached

# Debian's own, wherever else the PATH looks.
SYSTEM = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin:/sbin:/bin"}


def promtool() -> Path:
    """The program: one on the PATH, or one that is fetched once and kept."""
    return _program("promtool", "prometheus")


def amtool() -> Path:
    """As `promtool`, for the settings of Alertmanager."""
    return _program("amtool", "prometheus-alertmanager")


def _program(name: str, package: str) -> Path:
    found = shutil.which(name)
    if found:
        return Path(found)
    return cached(name, name, lambda folder: _fetch(folder, package)) / "usr/bin" / name


def _fetch(folder: Path, package: str) -> None:
    download = ["apt-get", "--quiet", "download", package]
    if _done(download, folder).returncode:
        _run(["apt-get", "--quiet", "update"], folder)
        _run(download, folder)
    (file,) = folder.glob(f"{package}_*.deb")
    _run(["dpkg-deb", "--extract", file.name, "."], folder)


def _run(command: list[str], folder: Path) -> None:
    done = _done(command, folder)
    if done.returncode:
        raise RuntimeError(f"a checker is fetched with {' '.join(command)}: {done.stderr}")


def _done(command: list[str], folder: Path) -> "subprocess.CompletedProcess[str]":
    program = shutil.which(command[0], path=SYSTEM["PATH"])
    if program is None:
        raise RuntimeError(
            f"there is no {command[0]}: install promtool and amtool, and put them on the PATH"
        )
    return subprocess.run(
        [program, *command[1:]], cwd=folder, env=SYSTEM, capture_output=True, text=True
    )
