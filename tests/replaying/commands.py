"""A repository with a changed rule."""

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("billing_stream", "agents", "tables", "web")


class Repository:
    """A git repository with the code as it is here, and changes of it as branches."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for package in PACKAGES:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / package, folder / package, ignore=ignored)
        self._git("init", "--quiet", "--initial-branch=as-it-is")
        self._commit()

    def change(self, branch: str, file: str, old: str, new: str) -> None:
        """A branch with one text in one file changed."""
        self._git("checkout", "--quiet", "-b", branch, "as-it-is")
        path = self.folder / file
        before = path.read_text()
        assert old in before, f"{file} has no {old!r}"
        path.write_text(before.replace(old, new))
        self._commit()

    def empty(self, branch: str) -> None:
        """A branch that lacks the rules."""
        self._git("checkout", "--quiet", "-b", branch, "as-it-is")
        shutil.rmtree(self.folder / "billing_stream" / "domain")
        self._commit()

    def _commit(self) -> None:
        self._git("add", "--all")
        self._git("commit", "--quiet", "--allow-empty", "--message", "change")

    def _git(self, *arguments: str) -> None:
        names = ("AUTHOR_NAME", "AUTHOR_EMAIL", "COMMITTER_NAME", "COMMITTER_EMAIL")
        env = {**os.environ, **{f"GIT_{name}": "t@example.com" for name in names}}
        command = ["git", "-C", str(self.folder), *arguments]
        subprocess.run(command, env=env, check=True, capture_output=True)
