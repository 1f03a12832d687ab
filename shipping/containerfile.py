"""The Dockerfile read, and its build commands run in a folder instead of in an engine."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

from dockerfile_parse import DockerfileParser
from msgspec import Struct

ROOT = Path(__file__).parent.parent


class Instruction(Struct, frozen=True):
    """One instruction of a stage, e.g. RUN and its command."""

    name: str
    value: str


def stages(dockerfile: Path = ROOT / "Dockerfile") -> dict[str, list[Instruction]]:
    """The instructions of each stage, in order, without its FROM."""
    found: dict[str, list[Instruction]] = {}
    parsed = DockerfileParser(fileobj=BytesIO(dockerfile.read_bytes())).structure
    name = None
    for line in parsed:
        if line["instruction"] == "FROM":
            name = line["value"].split()[-1]
            found[name] = []
        elif name is not None and line["instruction"] != "COMMENT":
            found[name].append(Instruction(line["instruction"], line["value"]))
    return found


class Rehearsal:
    """Runs the stages `fetch` and `install` in a folder: its `wheels` and `venv` come of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.venv = folder / "venv"
        self._source = folder / "src"
        self._base = folder / "base"

    def build(self) -> Path:
        """Run every step; the folder of the finished environment's commands.

        Raises CalledProcessError at the first step that fails.
        """
        self._source.mkdir(parents=True)
        # Stands for the base image: Python and its pip, and nothing else.
        subprocess.run([sys.executable, "-m", "venv", str(self._base)], check=True)
        for stage in ("fetch", "install"):
            for instruction in stages()[stage]:
                self._step(instruction)
        return self.venv / "bin"

    def _step(self, instruction: Instruction) -> None:
        words = instruction.value.split()
        if instruction.name == "COPY" and not words[0].startswith("--from"):
            for name in words[:-1]:
                self._copy(ROOT / name, self._source / words[-1])
        elif instruction.name == "RUN":
            command = instruction.value
            for place in ("wheels", "venv"):
                command = command.replace(f"/{place}", str(self.folder / place))
            subprocess.run(
                ["sh", "-ec", command], cwd=self._source, env=self._environment(), check=True
            )

    def _copy(self, source: Path, to: Path) -> None:
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, to, ignore=ignored, dirs_exist_ok=True)
        else:
            to.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, to)

    def _environment(self) -> Mapping[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        return {**kept, "PATH": f"{self._base / 'bin'}:{os.environ['PATH']}"}
