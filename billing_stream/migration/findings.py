"""What was found in the old database: repaired by a named rule, rejected, or only noted."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

EXAMPLES_MAX = 5

REPAIRS = {
    # Of billing records.
    "record-missing": "purchases without a billing record: it begins with the first of them",
    "record-twice": "two records of one merchant: the older, its trial used if it is in either",
    "record-without-time": "no time of creation: the first time that is known of the merchant",
    "trial-flag-missing": "no trial flag: used if there are dates, else available",
    "trial-dates-without-flag": "dates of a trial, and the flag says available: it was used",
    "trial-flag-without-dates": "a trial that was used and has no dates: used, at an unknown time",
    "trial-without-start": "the trial's start is its end less TRIAL_DURATION",
    "trial-without-end": "the trial's end is its start and TRIAL_DURATION",
    "trial-ends-before-start": "the trial's end is its start and TRIAL_DURATION",
    "last-purchase-behind": "last_purchase_at is before the last payment: that of the payment",
    # Of purchases.
    "purchase-twice": "the same purchase in two rows that say the same: one of them",
    "status-spelling": "a status in other letters, or with blanks",
    "platform-spelling": "a platform in other letters, or with blanks",
    "platform-unknown": "an unknown platform, or none: custom",
    "charge-spelling": "a charge with blanks around it, or of nothing but blanks",
    "charge-unusable": "a charge that no platform gives: the purchase has none",
    "charge-twice": "a charge of two purchases of a merchant: the paid one's, else the older's",
    "amount-rounded": "an amount with fractions of a cent, or written otherwise: in cents",
    "amount-missing": "no amount, and the credits of a pack: the pack's",
    "purchase-without-time": "no time of creation: of payment, of expiry, or the record's",
    "purchase-without-expiry": "it expires PENDING_PURCHASE_EXPIRY after its creation",
    "payment-without-time": "paid, and no time of payment: that of its creation",
    "payment-time-unpaid": "a time of payment of what was not paid: left out",
    # Of both.
    "time-unreadable": "not a time, e.g. infinity: counts as missing",
}

REJECTS = {
    "merchant-no-uuid": "the merchant's id is not a uuid",
    "record-no-time": "nothing says when the merchant came",
    "purchase-no-uuid": "the purchase's id is not a uuid",
    "purchase-of-two": "another row has the same id and says something else",
    "purchase-no-time": "nothing says when the purchase was made",
    "credits-unusable": "the credits are not a whole number from 1 to 1,000,000,000",
    "amount-unusable": "the amount is not a positive sum of money",
    "status-unknown": "the status is not one of pending, completed, failed, expired",
}

Rejected = Callable[[str, str, Mapping[str, Any]], None]
"""Called with each rejected row: table, reason, row."""


@dataclass(slots=True)
class Findings:
    """Counts, and a few examples of each."""

    on_reject: Rejected | None = None
    repairs: Counter[str] = field(default_factory=Counter)
    rejects: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    read: Counter[str] = field(default_factory=Counter)
    rejected_rows: Counter[str] = field(default_factory=Counter)
    rejected_credits: int = 0
    totals_differ: int = 0
    totals_difference: int = 0
    notes: list[str] = field(default_factory=list)

    def repaired(self, rule: str, example: str) -> None:
        """A row was repaired by this rule."""
        if rule not in REPAIRS:
            raise KeyError(rule)
        self.repairs[rule] += 1
        self._show(rule, example)

    def rejected(self, table: str, reason: str, row: Mapping[str, Any]) -> None:
        """A row cannot be brought in."""
        if reason not in REJECTS:
            raise KeyError(reason)
        self.rejects[reason] += 1
        self.rejected_rows[table] += 1
        self._show(reason, str(row.get("id") or row.get("merchant_id")))
        if self.on_reject is not None:
            self.on_reject(table, reason, row)

    def total_differs(self, merchant: str, recorded: int | None, paid: int) -> None:
        """The old total is another than that of the paid purchases, which count."""
        self.totals_differ += 1
        self.totals_difference += (recorded or 0) - paid
        self._show("total-differs", f"{merchant}: {recorded}, paid purchases {paid}")

    def _show(self, what: str, example: str) -> None:
        shown = self.examples.setdefault(what, [])
        if len(shown) < EXAMPLES_MAX:
            shown.append(example)


@contextmanager
def writing(path: Path | None) -> Iterator[Rejected | None]:
    """Takes rejected rows to the file, if there is one; it is overwritten."""
    if path is None:
        yield None
        return
    with path.open("w", encoding="utf-8") as file:

        def write(table: str, reason: str, row: Mapping[str, Any]) -> None:
            columns = {name: value for name, value in row.items() if name != "key"}
            line = {"table": table, "reason": reason, "why": REJECTS[reason], "row": columns}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")

        yield write
