"""What the recording says of a single command: does what it would do now look like that?"""

from collections import defaultdict
from datetime import datetime
from typing import Any

from .layout import topics
from .merchant_run import GIVEN_UP, Command, Effect, code_of, plain
from .records import Recorded, RecordedEvent

Row = dict[str, Any]
# A changed rule changes what is decided, and seldom by which record: an event with another
# cause speaks for another order.
OTHER_CAUSE = 4


class Evidence:
    """The recording of one merchant, by what can be asked of it."""

    def __init__(self, recorded: Recorded) -> None:
        self._events = {event.event_id: event for event in recorded.events}
        self._caused: dict[str, set[str]] = defaultdict(set)
        for event in recorded.events:
            self._caused[event.cause].add(event.event_id)
        self._refused: dict[str, str] = {}
        # When a webhook was parked, by its reference.
        self._parked: dict[str, str] = {}
        self._given_up: set[str] = set()
        for ref, letters in recorded.letters.items():
            for letter in letters:
                if letter.reason.startswith(GIVEN_UP):
                    self._given_up.add(ref)
                    self._parked[ref] = letter.at
                else:
                    self._refused[ref] = code_of(letter.reason)
        self._passed: dict[tuple[str, str, int], Row] = {}
        self._last: dict[tuple[str, str], Row] = {}
        for row in recorded.rows:
            if row.value is not None and "version" in row.value:
                self._passed[row.table, row.key, row.value["version"]] = row.value
                self._last[row.table, row.key] = row.value
                for parked in row.value.get("parked", ()):
                    self._parked[parked["source"]] = parked["at"]
        self._waiting: set[str] = set()
        for last in self._last.values():
            self._waiting.update(parked["source"] for parked in last.get("parked", ()))

    def against(self, command: Command, effect: Effect) -> int:
        """How much speaks against this command being the next one; 0: nothing."""
        mismatches = sum(map(self._unlike, effect.events))
        mismatches += sum(1 for source in effect.given_up if source not in self._given_up)
        mismatches += sum(
            1 for source in effect.claimed if source in self._given_up | self._waiting
        )
        if command.name in self._given_up:
            mismatches += command.name not in (*effect.parked, *effect.given_up)
        decision = effect.decision
        if command.is_entry:
            # What changes nothing is in no journal.
            mismatches += decision is None or decision.merchant is None
        else:
            caused = self._caused.get(command.cause, set())
            mismatches += len(caused - {published.event_id for published in effect.events})
            refused = code_of(effect.refused) if effect.refused is not None else None
            mismatches += refused != self._refused.get(command.name)
        if decision is None or decision.merchant is None:
            return mismatches
        merchant = decision.merchant
        row = plain(merchant)
        mismatches += self._mismatches(topics.BILLING_RECORDS, merchant.merchant_id, row)
        # The last one only: the others were looked at when they were the last.
        for parked in row.get("parked", ())[-1:]:
            mismatches += self._parked.get(parked["source"], parked["at"]) != parked["at"]
        for purchase in decision.purchases:
            mismatches += self._mismatches(topics.CREDIT_PURCHASES, purchase.id, plain(purchase))
        for adjustment in getattr(decision, "adjustments", ()):
            mismatches += self._mismatches("credit_adjustments", adjustment.id, plain(adjustment))
        return mismatches

    def _unlike(self, published: RecordedEvent) -> int:
        event = self._events.get(published.event_id)
        if event is None:
            return 1
        if event.cause != published.cause:
            return OTHER_CAUSE
        was, now = (event.at, event.data), (published.at, published.data)
        return int(was != now or event.correlation_id != published.correlation_id)

    def _mismatches(self, table: str, key: str, row: Row) -> bool:
        """Whether the row never was so, as far as that is known."""
        last = self._last.get((table, key))
        if last is None:
            return True
        created, was_created = row.get("created_at"), last.get("created_at")
        if created is not None and created != was_created:
            # What is imported may make a record older than it was, and never younger.
            imported = table == topics.BILLING_RECORDS and was_created is not None
            if not imported or _instant(created) < _instant(was_created):
                return True
        version = row.get("version", 0)
        passed = self._passed.get((table, key, version))
        return passed != row if passed is not None else version > last["version"]


def _instant(text: Any) -> datetime:
    return datetime.fromisoformat(text)
