"""Runs a command as the container does: as process 1, another user, a read-only root, no rights.

By Linux itself, without a container engine. Where that cannot be had (another system, not root, a
sandbox around us) the command runs as whoever we are, and `Confinement` says what is left out.
"""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from msgspec import Struct

UID = 10001


class Confinement(Struct, frozen=True):
    """What stands before a command, and what it does to it."""

    prefix: tuple[str, ...]
    read_only: bool
    uid: int

    @property
    def is_process_one(self) -> bool:
        """Whether the command is process 1; then it is a child of the process started."""
        return self.read_only


def confine(writable: Path, needed: list[Path]) -> Confinement:
    """Confine to `writable`, an existing folder; `needed` must be readable by the user."""
    if not _can_unshare():
        return Confinement((), read_only=False, uid=os.getuid())
    uid = UID if all(_open_to_all(path) for path in needed) else 0
    os.chown(writable, uid, uid)
    there = shlex.quote(str(writable))
    rights = (
        f"setpriv --reuid={uid} --regid={uid} --clear-groups --no-new-privs --bounding-set=-all"
    )
    script = (
        "set -e; mount --make-rprivate /; "
        f"mount --bind {there} {there}; mount -o remount,bind,ro /; "
        # A /tmp of its own would be writable still.
        f"if mountpoint -q /tmp; then mount -o remount,bind,ro /tmp; fi; "
        f'cd {there}; exec {rights} --inh-caps=-all "$@"'
    )
    unshare = ("unshare", "--mount", "--pid", "--fork", "--mount-proc")
    return Confinement((*unshare, "sh", "-c", script, "sh"), read_only=True, uid=uid)


def _can_unshare() -> bool:
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "setpriv", "mountpoint"))):
        return False
    tried = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c"]
    done = subprocess.run(
        [*tried, "mount --make-rprivate / && mount -o remount,bind,ro /"], capture_output=True
    )
    return done.returncode == 0


def _open_to_all(path: Path) -> bool:
    real = path.resolve()
    return all(folder.stat().st_mode & 0o005 == 0o005 for folder in (real, *real.parents))


def python_needs() -> list[Path]:
    """What a command of this interpreter and its packages must be able to read."""
    return [Path(sys.executable), Path(sys.prefix), Path(__file__).parent.parent]
