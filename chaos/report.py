"""What a run found, as a table and as JSON."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from chaos import goals
from chaos.goals import Goals
from chaos.nemesis import Fault
from chaos.plan import SINGLES
from chaos.recovery import P50_SECONDS_MAX, P99_SECONDS_MAX, Recoveries
from chaos.workers import Exit

EXIT_GOOD, EXIT_FAULT, EXIT_INVALID = 0, 1, 3
# A single fault, as the goal has it; a storm is many.
SINGLE = (*SINGLES, "outage")
HEAD = (
    f"{'fault':17}{'count':>6}{'p50 s':>8}{'p99 s':>8}{'max s':>8}{'held up max':>12}{'invalid':>9}"
)


@dataclass
class Report:
    """Everything that is told at the end."""

    seed: int
    minutes: float
    faults: list[Fault]
    exits: list[Exit]
    records: int
    events: int
    load_seconds: float
    answers: Counter[str]
    problems: list[str]
    stuck: list[str]
    checked: dict[str, int] = field(default_factory=dict)
    uncertain: int = 0
    verified: str = ""
    tool: str = ""
    known: Recoveries = field(default_factory=lambda: Recoveries.of(()))
    # What the broker itself says of transactions whose end it did not mark.
    unmarked: list[str] = field(default_factory=list)
    # Of three brokers only.
    goals: Goals | None = None
    bought: Counter[str] = field(default_factory=Counter)

    @property
    def valid(self) -> list[Fault]:
        """The faults that hit something."""
        return [fault for fault in self.faults if not fault.invalid]

    @property
    def given_up(self) -> set[int]:
        """Numbers of the steps that hit nothing at any of their tries."""
        return {f.number for f in self.faults} - {f.number for f in self.valid}

    @property
    def recoveries(self) -> Recoveries:
        """Of all single faults."""
        return Recoveries.of(
            f.seconds for f in self.valid if f.kind in SINGLE and f.seconds is not None
        )

    @property
    def missed(self) -> list[str]:
        """The goals that were not met."""
        if self.goals is not None:
            return self.goals.missed(self.valid)
        found = self.recoveries
        return [] if found.met else [f"recovered after p50 {found.p50:.1f}, p99 {found.p99:.1f} s"]

    @property
    def code(self) -> int:
        """The exit code."""
        lost = any(fault.seconds is None for fault in self.valid)
        if self.problems or self.stuck or lost or self.missed:
            return EXIT_FAULT
        return EXIT_INVALID if self.given_up or not self.valid else EXIT_GOOD

    @property
    def verdict(self) -> str:
        """In words."""
        if self.code == EXIT_GOOD:
            return "GOOD: nothing lost, nothing doubled, goals met"
        if self.code == EXIT_INVALID:
            return f"INVALID: steps {sorted(self.given_up)} hit nothing"
        return (
            f"FAULT: {len(self.problems)} problems, {len(self.stuck)} stuck partitions, "
            f"goals {'NOT MET' if self.missed else 'met'}"
        )

    def lines(self) -> list[str]:
        """The table."""
        lines = ["", HEAD]
        for kind in dict.fromkeys(fault.kind for fault in self.faults):
            lines.append(_row(kind, [f for f in self.faults if f.kind == kind]))
        if self.goals is None:
            lines.append(_row("single faults", [f for f in self.faults if f.kind in SINGLE]))
            lines.append(f"goals: p50 {P50_SECONDS_MAX:.0f} s, p99 {P99_SECONDS_MAX:.0f} s")
        else:
            lines += ["", *goals.rows(self.faults)]
        lines += [f"NOT MET: {text}" for text in self.missed]
        lines += ["", *self._figures()]
        lines += [f"STUCK: {text}" for text in self.stuck]
        lines += [f"PROBLEM: {text}" for text in self.problems]
        return [*lines, "", self.verdict]

    def _figures(self) -> list[str]:
        requests = sum(self.answers.values())
        seconds = max(1.0, self.load_seconds)
        exits = Counter(f"{e.code}{f' ({e.asked})' if e.asked else ''}" for e in self.exits)
        unasked = [e for e in self.exits if not e.asked and e.code not in (0, -9)]
        why = Counter((e.code, _shortened(e.why)) for e in unasked)
        checked = ", ".join(f"{count} {what}" for what, count in self.checked.items())
        return [
            f"seed {self.seed}, {self.minutes:g} minutes: {self.tool}",
            f"{self.records} records sent ({self.records / seconds:.0f}/s), "
            f"{self.events} events, {self.uncertain} merchants uncertain",
            f"{requests} HTTP requests ({requests / seconds:.1f}/s): {dict(self.answers)}",
            *([f"buyers of three brokers' partitions: {dict(self.bought)}"] if self.bought else ()),
            f"a new shop is known after: p50 {self.known.p50:.1f} s, p99 {self.known.p99:.1f} s, "
            f"max {self.known.longest:.1f} s",
            f"{len(self.unmarked)} transactions whose end a killed broker did not mark everywhere",
            *(f"  {line}" for line in self.unmarked[:10]),
            f"{len(self.exits)} ends of workers, by exit code: {dict(sorted(exits.items()))}",
            *(f"  {times} x {code}: {reason}" for (code, reason), times in why.most_common(12)),
            f"checked: {checked or 'NOTHING'}; {self.verified}",
        ]

    def json(self) -> dict[str, Any]:
        """For machines."""
        every = self.recoveries
        return {
            "seed": self.seed,
            "minutes": self.minutes,
            "verdict": self.verdict,
            "exit_code": self.code,
            "recovery_s": {"p50": every.p50, "p99": every.p99, "max": every.longest},
            "faults": [{**vars(fault)} for fault in self.faults],
            "exits": [{**vars(one)} for one in self.exits],
            "records": self.records,
            "events": self.events,
            "load_seconds": self.load_seconds,
            "requests": dict(self.answers),
            "checked": self.checked,
            "uncertain_merchants": self.uncertain,
            "verified": self.verified,
            "problems": self.problems,
            "stuck": self.stuck,
            "unmarked": self.unmarked,
            "known_s": vars(self.known),
            "missed": self.missed,
            "bought": dict(self.bought),
        }


def _row(name: str, faults: list[Fault]) -> str:
    valid = [fault for fault in faults if not fault.invalid]
    found = Recoveries.of(fault.seconds for fault in valid if fault.seconds is not None)
    held_up = max((fault.held_up for fault in valid), default=0.0)
    return (
        f"{name:17}{found.count:6}{found.p50:8.1f}{found.p99:8.1f}{found.longest:8.1f}"
        f"{held_up:12.1f}{len(faults) - len(valid):9}"
    )


def _shortened(why: str) -> str:
    """Without the time and the number of the partition, so that like is counted with like."""
    text = why[24:] if why[:2] == "20" else why
    return " ".join("N" if part.isdigit() else part for part in text.split())[:200]
