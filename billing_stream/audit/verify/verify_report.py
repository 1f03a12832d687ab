"""What the verifier reports: checks, what was counted, faults with their references."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from billing_stream.console.tables import table_lines
from billing_stream.records.record_ref import RecordRef

TITLES = {
    "formats": "every record of billing can be read, and is where it belongs",
    "outcomes": "every command and webhook has its outcome, once",
    "positions": "positions only rise, and are not beyond what has no outcome",
    "dead-letters": "every bad record is a dead letter once, and no good one is",
    "forwarded": "every record of another partition was forwarded once",
    "redriven": "a redriven dead letter counts once, and its sender is recorded",
    "event-ids": "no event id twice, no id with other bytes",
    "once": "once per trial, once per purchase",
    "causes": "every event names a record or command that is there",
    "sequences": "sequences of a merchant are 1, 2, 3 ... in the order of the log",
    "versions": "versions of a row only rise",
    "credits": "credits = paid purchases - refunds, per merchant and per purchase",
    "trials": "trials begin when started and end at their end",
    "journal": "commands that came from no topic are in the journal",
    "shops": "every shop has the merchant with the claim that counts",
    "charges": "every charge has the purchase that registered it first, every webhook one outcome",
    "shop-trials": "the trial of a shop is that of the merchant that claimed it first",
    "catalogue": "each version of the catalogue was asked for, and is the same for all",
    "order": "the order of decisions is written, and explains all of it",
    "tables": "the tables are what the contract makes of the inputs",
    "projection": "PostgreSQL has the rows and events of the log",
}


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is wrong, and where."""

    what: str
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    event_id: str | None = None
    merchant: str | None = None

    def line(self) -> str:
        """In one line."""
        parts = []
        if self.topic is not None and self.partition is not None and self.offset is not None:
            parts.append(str(RecordRef(self.topic, self.partition, self.offset)))
        if self.event_id is not None:
            parts.append(f"event {self.event_id}")
        if self.merchant is not None:
            parts.append(f"merchant {self.merchant}")
        return f"{', '.join(parts)}: {self.what}" if parts else self.what


@dataclass(slots=True)
class Check:
    """One promise: how much was looked at, how often it is broken."""

    name: str
    title: str
    counted: int = 0
    faults: int = 0
    examples: list[Violation] = field(default_factory=list)
    note: str = ""

    @property
    def ok(self) -> bool:
        """Whether it is kept."""
        return self.faults == 0


class Report:
    """All checks. `notes` are what could not be judged, `history` lines about one merchant."""

    def __init__(self, examples_max: int = 10) -> None:
        self.checks = {name: Check(name, title) for name, title in TITLES.items()}
        self.notes: list[str] = []
        self.history: list[str] = []
        self.records = 0
        self.seconds = 0.0
        self._examples_max = examples_max

    @property
    def ok(self) -> bool:
        """Whether no fault was found."""
        return all(check.ok for check in self.checks.values())

    def faults(self) -> set[str]:
        """The names of the checks that failed."""
        return {check.name for check in self.checks.values() if not check.ok}

    def count(self, name: str, number: int = 1) -> None:
        """A check looked at `number` more things."""
        self.checks[name].counted += number

    def fault(
        self,
        name: str,
        what: str,
        ref: RecordRef | None = None,
        *,
        event_id: str | None = None,
        merchant: str | None = None,
    ) -> None:
        """Something is wrong."""
        check = self.checks[name]
        check.faults += 1
        if len(check.examples) < self._examples_max:
            topic, partition, offset = ref or (None, None, None)
            check.examples.append(Violation(what, topic, partition, offset, event_id, merchant))

    def lines(self) -> Iterator[str]:
        """The report for people."""
        yield from self.history
        if self.history:
            yield ""
        rows = [
            (
                check.name,
                f"{check.counted:,}",
                "ok" if check.ok else f"FAULT x {check.faults}",
                check.title + (f" ({check.note})" if check.note else ""),
            )
            for check in self.checks.values()
        ]
        yield from table_lines(("CHECK", "COUNT", "VERDICT", "PROMISE"), rows, right=("COUNT",))
        for check in self.checks.values():
            if not check.ok:
                yield ""
                yield f"{check.name}: {check.faults} faults"
                for fault in check.examples:
                    yield f"  {fault.line()}"
                if check.faults > len(check.examples):
                    yield f"  and {check.faults - len(check.examples)} more"
        if self.notes:
            yield ""
            yield from (f"note: {note}" for note in self.notes)
        yield ""
        found = sum(check.faults for check in self.checks.values())
        verdict = "no fault" if self.ok else f"{found} faults in {', '.join(sorted(self.faults()))}"
        yield f"{self.records:,} records in {self.seconds:.1f} s: {verdict}"

    def as_json(self) -> dict[str, Any]:
        """The report for machines."""
        checks: list[dict[str, Any]] = [
            {"ok": check.ok, **asdict(check)} for check in self.checks.values()
        ]
        return {
            "ok": self.ok,
            "records": self.records,
            "seconds": round(self.seconds, 3),
            "checks": checks,
            "notes": self.notes,
            "history": self.history,
        }
