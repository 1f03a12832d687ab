"""What an import or a look in shadow mode found, for people and for programs."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from billing_stream.migration.comparing import Comparison, Difference
from billing_stream.migration.findings import REJECTS, REPAIRS, Findings
from billing_stream.migration.old_database import PURCHASES, RECORDS

TABLES = (RECORDS, PURCHASES)


@dataclass
class Report:
    """Everything there is to say. Parts that did not take place are None or empty."""

    findings: Findings
    expected: Counter[str] = field(default_factory=Counter)
    commands: int = 0
    sent: int = 0
    waited: bool | None = None
    comparison: Comparison | None = None
    differences: Sequence[Difference] = ()
    # Whether what is only here, or went further here, is a difference that matters.
    strict: bool = False
    differences_max: int = 20
    seconds: float = 0.0

    @property
    def faults(self) -> int:
        """How many differences matter."""
        return sum(self.strict or not found.moved_on for found in self.differences)

    def lines(self) -> Iterator[str]:
        """The report for people."""
        yield from self._tables()
        yield from self._repairs()
        yield from self._differences()

    def _tables(self) -> Iterator[str]:
        findings, comparison = self.findings, self.comparison
        yield f"{'':<26}{RECORDS:>34}{PURCHASES:>34}"
        yield _row("read from the old tables", (findings.read[table] for table in TABLES))
        yield _row("rejected", (findings.rejected_rows[table] for table in TABLES))
        yield _row("to be here", (self.expected[table] for table in TABLES))
        if comparison is not None:
            yield _row("here", (comparison.here[table].count for table in TABLES))
            yield _row("checksum to be here", (comparison.there[t].text for t in TABLES))
            yield _row("checksum here", (comparison.here[t].text for t in TABLES))
        if self.commands:
            skipped = self.commands - self.sent
            already = f", {skipped:,} had been sent before" if self.sent and skipped else ""
            yield f"{self.commands:,} commands, {self.sent:,} sent{already}"
        if self.waited is False:
            yield (
                "the workers have not processed all of it yet: are any running? "
                "Run the same again to compare"
            )
        yield f"{self.seconds:,.1f} s"

    def _repairs(self) -> Iterator[str]:
        findings = self.findings
        yield from findings.notes
        for title, counts, words in (
            ("repaired", findings.repairs, REPAIRS),
            ("rejected", findings.rejects, REJECTS),
        ):
            for name, count in sorted(counts.items()):
                yield f"{title} {count:,} x {name}: {words[name]}"
                yield f"    e.g. {'; '.join(findings.examples[name][:2])}"
        if findings.rejected_credits:
            yield f"rejected purchases that were paid: {findings.rejected_credits:,} credits"
        if findings.totals_differ:
            yield (
                f"old totals that are not those of the paid purchases: {findings.totals_differ:,} "
                f"merchants, {findings.totals_difference:+,} credits; the purchases count"
            )
            yield f"    e.g. {'; '.join(findings.examples['total-differs'][:2])}"

    def _differences(self) -> Iterator[str]:
        if self.comparison is None:
            return
        counts = Counter((found.kind, self._title(found)) for found in self.differences)
        for (kind, title), count in sorted(counts.items()):
            yield f"{title}: {count:,} x {kind}"
        shown = sorted(self.differences, key=lambda found: found.moved_on)
        for found in shown[: self.differences_max]:
            yield f"    {found.kind}: {found.line()}"
        if len(shown) > self.differences_max:
            yield f"    and {len(shown) - self.differences_max:,} more (--show, --json)"
        yield "no difference" if not self.faults else f"{self.faults:,} differences"

    def _title(self, found: Difference) -> str:
        return "changed here" if found.moved_on and not self.strict else "differs"

    def as_json(self) -> dict[str, Any]:
        """The whole report for machines, every difference included."""
        findings, comparison = self.findings, self.comparison
        tables: dict[str, dict[str, Any]] = {}
        for table in TABLES:
            tables[table] = {
                "read": findings.read[table],
                "rejected": findings.rejected_rows[table],
                "expected": self.expected[table],
            }
            if comparison is not None:
                tables[table] |= {
                    "here": comparison.here[table].count,
                    "checksum_expected": comparison.there[table].text,
                    "checksum_here": comparison.here[table].text,
                }
        return {
            "tables": tables,
            "commands": self.commands,
            "sent": self.sent,
            "processed": self.waited,
            "repairs": dict(findings.repairs),
            "rejects": dict(findings.rejects),
            "rejected_credits": findings.rejected_credits,
            "totals_differ": findings.totals_differ,
            "totals_difference": findings.totals_difference,
            "examples": findings.examples,
            "notes": findings.notes,
            "compared": comparison is not None,
            "faults": self.faults,
            "differences": [found._asdict() for found in self.differences],
            "seconds": round(self.seconds, 1),
        }


def _row(title: str, values: Iterator[Any]) -> str:
    cells = (f"{value:,}" if isinstance(value, int) else str(value) for value in values)
    return f"{title:<26}" + "".join(f"{cell:>34}" for cell in cells)
