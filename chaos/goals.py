"""The goals of three brokers: what merchants may notice of a fault of one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from chaos.nemesis import Fault
from chaos.plan import OF_ONE_BROKER

# Kafka takes a broker for dead after so long.
SESSION_MS_DEFAULT = 9_000
SESSION_MS_SHORT = 6_000
KILLED_SECONDS_MAX = 15.0
KILLED_SECONDS_MAX_SHORT = 8.0
UNREACHABLE_SECONDS_MAX = 30.0
HEAD = (
    f"{'fault of three':18}{'count':>6}{'no service p50':>16}{'max s':>8}{'ends':>6}{'invalid':>9}"
)


@dataclass(frozen=True)
class Goals:
    """For brokers with this broker.session.timeout.ms, None for Kafka's default."""

    session_ms: int | None

    @property
    def killed_seconds_max(self) -> float:
        """Without service once a broker was killed, at the median of the tries."""
        short = (self.session_ms or SESSION_MS_DEFAULT) <= SESSION_MS_SHORT
        return KILLED_SECONDS_MAX_SHORT if short else KILLED_SECONDS_MAX

    def missed(self, faults: Sequence[Fault]) -> list[str]:
        """Which goals these (valid) faults missed, a line each."""
        return list(self._missed(faults))

    def _missed(self, faults: Sequence[Fault]) -> Iterator[str]:
        killed = [fault.service_p50 for fault in faults if fault.kind.startswith("kill-")]
        if killed and median(killed) > self.killed_seconds_max:
            yield (
                f"a broker killed: no service for {median(killed):.1f} s, "
                f"goal {self.killed_seconds_max:.0f} s"
            )
        for fault in faults:
            unreachable = fault.kind.startswith("freeze-") or fault.kind == "cut-off"
            if unreachable and fault.service_max > UNREACHABLE_SECONDS_MAX:
                yield (
                    f"#{fault.number} {fault.kind}: no service for {fault.service_max:.1f} s, "
                    f"goal {UNREACHABLE_SECONDS_MAX:.0f} s"
                )
            if fault.unasked and fault.kind in OF_ONE_BROKER:
                yield f"#{fault.number} {fault.kind}: workers ended: {', '.join(fault.exits)}"


def rows(faults: Sequence[Fault]) -> list[str]:
    """The table."""
    lines = [HEAD]
    for kind in dict.fromkeys(fault.kind for fault in faults):
        some = [fault for fault in faults if fault.kind == kind]
        valid = [fault for fault in some if not fault.invalid]
        p50 = median([fault.service_p50 for fault in valid] or [0.0])
        longest = max((fault.service_max for fault in valid), default=0.0)
        ends = sum(fault.unasked for fault in some)
        lines.append(
            f"{kind:18}{len(valid):6}{p50:16.1f}{longest:8.1f}{ends:6}{len(some) - len(valid):9}"
        )
    return lines
