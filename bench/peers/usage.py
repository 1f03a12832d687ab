"""What a process has used: CPU time, that of its JIT compilers apart, and memory."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

import psutil

JIT_THREAD = re.compile(r"C[12] Compiler")


@dataclass(frozen=True)
class Usage:
    """CPU seconds since the process began; `jit` is the part of its JIT compilers."""

    cpu: float = 0.0
    jit: float = 0.0

    @classmethod
    def of(cls, pid: int | None) -> "Usage":
        """That of a process; None has used nothing."""
        if pid is None:
            return cls()
        times = psutil.Process(pid).cpu_times()
        return cls(times.user + times.system, jit_seconds(Path("/proc") / str(pid) / "task"))

    def __sub__(self, before: "Usage") -> "Usage":
        return Usage(self.cpu - before.cpu, self.jit - before.jit)


def jit_seconds(tasks: Path) -> float:
    """CPU seconds of the threads of a JVM that compile; 0 where there is no `/proc`."""
    ticks = 0
    for stat in tasks.glob("*/stat"):
        # The name is in brackets and may contain any character.
        name, _, rest = stat.read_text().rpartition(")")
        if JIT_THREAD.search(name):
            fields = rest.split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
