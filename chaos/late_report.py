"""What the tries of late requests found, as lines, a table and JSON."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from chaos.frames import Api
from chaos.late_proxy import Held
from chaos.report import EXIT_FAULT, EXIT_GOOD, EXIT_INVALID
from chaos.workers import Exit

KINDS = {
    "end-txn": Api.END_TXN,
    "produce": Api.PRODUCE,
    "add-partitions": Api.ADD_PARTITIONS,
    "init-producer-id": Api.INIT_PRODUCER_ID,
}
# In which transaction of its producer the request arrives, counted from that in which it was sent.
MOMENTS = {"next": 1, "third": 3, "tenth": 10}
VERSIONS = (1, 2)


@dataclass(frozen=True)
class Cell:
    """A kind of request, a moment, and the version of transactions that the cluster allows."""

    kind: str
    moment: str
    version: int

    @property
    def name(self) -> str:
        """In a few words."""
        return f"{self.kind} {self.moment} v{self.version}"


def cells(versions: Iterable[int] = VERSIONS) -> list[Cell]:
    """All cells. Clients add no partitions in version 2."""
    return [
        Cell(kind, moment, version)
        for version in versions
        for kind in KINDS
        for moment in MOMENTS
        if not (kind == "add-partitions" and version == 2)
    ]


@dataclass
class Try:
    """What one try found. `invalid` says why the fault did not take place."""

    cell: Cell
    held: Held | None
    invalid: str = ""
    paid: int = 0
    completed: int = 0
    announced: int = 0
    doubled: int = 0
    exits: list[Exit] = field(default_factory=list)
    recovered: bool = True

    @property
    def lost(self) -> bool:
        """Whether a payment has not had its effect exactly once."""
        counts = (self.completed, self.announced)
        return not self.invalid and (counts != (self.paid, self.paid) or self.doubled > 0)

    @property
    def good(self) -> bool:
        """Whether the fault took place and did no harm."""
        return not self.invalid and not self.lost and self.recovered

    @property
    def line(self) -> str:
        """One line."""
        result = "good"
        if self.invalid:
            result = f"INVALID: {self.invalid}"
        elif self.lost:
            result = (
                f"LOST: {self.paid} paid, {self.completed} completed, "
                f"{self.announced} with an event, {self.doubled} with more"
            )
        elif not self.recovered:
            result = "NOT RECOVERED"
        parts = [f"{self.cell.name:26} {result}"]
        if self.held is not None and self.held.before is not None:
            code = "" if self.held.error is None else f", answered with {self.held.error}"
            parts.append(
                f"{self.held.request.text} delivered after {self.held.after_produced} x Produce, "
                f"before {self.held.before.text}{code}"
            )
        parts += [f"worker ended with {one.code}: {one.why[-60:]}" for one in self.exits]
        return "; ".join(parts)


@dataclass
class Row:
    """The tries of a cell, and what the verifier found."""

    cell: Cell
    tries: list[Try] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def held(self) -> int:
        """Tries in which the fault took place and did no harm."""
        return sum(one.good for one in self.tries)

    @property
    def lost(self) -> int:
        """Tries with loss."""
        return sum(one.lost for one in self.tries)

    @property
    def valid(self) -> int:
        """Tries in which the fault took place."""
        return len(self.tries) - self.invalid

    @property
    def invalid(self) -> int:
        """Tries in which the fault did not take place."""
        return sum(bool(one.invalid) for one in self.tries)

    @property
    def good(self) -> bool:
        """Whether no try found anything, and neither did the verifier."""
        return self.held == self.valid and not self.problems

    def line(self, wanted: int) -> str:
        """One line of the table."""
        exits = Counter(one.code for found in self.tries for one in found.exits)
        spoken = Counter(one.held.spoken for one in self.tries if one.held is not None)
        return (
            f"{self.cell.kind:17}{self.cell.moment:7}{self.cell.version:8}"
            f"{', '.join(map(str, sorted(spoken))):>8}{wanted:7}{self.held:6}{self.lost:6}"
            f"{self.invalid:9}  {'found' if self.problems else 'none':9}"
            f"{', '.join(f'{times} x {code}' for code, times in sorted(exits.items()))}"
        )


HEAD = (
    f"{'request':17}{'moment':7}{'cluster':>8}{'spoken':>8}{'tries':>7}{'good':>6}{'lost':>6}"
    f"{'invalid':>9}  {'verify':9}exits"
)


def code_of(rows: Iterable[Row], wanted: int) -> int:
    """The exit code of all cells with so many tries each."""
    found = list(rows)
    if not all(row.good for row in found):
        return EXIT_FAULT
    return EXIT_GOOD if all(row.held == wanted for row in found) else EXIT_INVALID


def table(rows: Iterable[Row], wanted: int) -> list[str]:
    """All cells, and what the verifier found."""
    lines = [HEAD]
    for row in rows:
        lines.append(row.line(wanted))
        lines += [f"    {problem[:300]}" for problem in row.problems[:1]]
    return lines


def as_json(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """For machines."""
    return [
        {
            **vars(row.cell),
            "tries": [one.line for one in row.tries],
            "good": row.held,
            "lost": row.lost,
            "invalid": row.invalid,
            "verify": row.problems,
            "exits": [vars(exit) for one in row.tries for exit in one.exits],
        }
        for row in rows
    ]
