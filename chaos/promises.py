"""What was promised, and what must come of it by the model that `verify` judges logs with.

Only what was promised is noted: a record when Kafka has acknowledged it, an answer when it
has come. Everything sent leads to the same end in whatever order the topics are read.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from billing_stream.audit.verify.model_state import Catalogue, PurchaseState, Rules, State
from billing_stream.audit.verify.verify_inputs import ParsedCommand
from billing_stream.audit.verify.verify_model import Step
from billing_stream.domain.policy import PACKS as SOLD
from billing_stream.domain.policy import Policy
from billing_stream.records.record_ref import RecordRef

RULES = Rules(catalogue=Catalogue.of(Policy()))
PACKS = {name: (pack.credits, pack.prices["USD"]) for name, pack in SOLD.items()}
CHARGE, PURCHASE = "a charge", "a purchase"


@dataclass
class Bought:
    """A purchase and its webhooks. `refunds` are the cumulative amounts, in their order."""

    merchant: str
    pack: str
    paid: bool = False
    declined: bool = False
    refunds: list[Decimal] = field(default_factory=list)

    @property
    def price(self) -> Decimal:
        """Of the pack."""
        return Decimal(PACKS[self.pack][1])

    def outcome(self) -> tuple[PurchaseState, int, Counter[str]]:
        """The purchase in the end, the credits it left, and the kinds of its events."""
        opened = PurchaseState(*PACKS[self.pack], "custom", 0, 1, charge=CHARGE)
        state = State(self.merchant, created=0, pending=((1, PURCHASE),))
        state.purchases, state.charges = {PURCHASE: opened}, {CHARGE: PURCHASE}
        events: Counter[str] = Counter()
        for said in self._told():
            step = Step(RULES, state, said, 0)
            state = step.state
            events.update(event[0] for event in step.events)
        return state.purchases[PURCHASE], state.total, events

    def _told(self) -> Iterator[ParsedCommand]:
        if self.declined:
            yield ParsedCommand("update", self.merchant, charge=CHARGE, text="declined")
        if self.paid:
            yield ParsedCommand("update", self.merchant, charge=CHARGE, text="active")
        for amount in self.refunds:
            yield ParsedCommand("refund", self.merchant, charge=CHARGE, amount=str(amount))


def without_ids(body: Any) -> str:
    """An answer, as JSON, without the ids of its request, which repetitions do not share."""
    if isinstance(body, dict) and isinstance(body.get("meta"), dict):
        body = {**body, "meta": {"timestamp": body["meta"].get("timestamp")}}
    return json.dumps(body)


@dataclass
class Promises:
    """Everything that was promised."""

    domains: dict[str, str] = field(default_factory=dict)
    trials: set[str] = field(default_factory=set)
    purchases: dict[str, Bought] = field(default_factory=dict)
    bad: set[RecordRef] = field(default_factory=set)
    # (merchant, kind of request, key) -> the answer, without the ids of its request.
    answers: dict[tuple[str, str, str], str] = field(default_factory=dict)
    # Whose records may or may not be in Kafka: a producer gave up on one.
    uncertain: set[str] = field(default_factory=set)

    def answered(self, merchant: str, request: str, key: str, raw: bytes) -> str | None:
        """Note an answer; what is wrong when the same request had another one."""
        answer = without_ids(json.loads(raw))
        before = self.answers.setdefault((merchant, request, key), answer)
        if before == answer:
            return None
        return f"{request} with key {key} of {merchant}: {answer} after {before}"

    def credits(self) -> Counter[str]:
        """The total of each merchant."""
        totals: Counter[str] = Counter(dict.fromkeys(self.domains, 0))
        for bought in self.purchases.values():
            totals[bought.merchant] += bought.outcome()[1]
        return totals

    def events(self) -> dict[str, Counter[str]]:
        """How many events of each kind about each subject (merchant or purchase)."""
        found: dict[str, Counter[str]] = {
            "trial.started": Counter(dict.fromkeys(self.trials, 1)),
            "trial.expired": Counter(),
            "credits.purchased": Counter(),
            "purchase.failed": Counter(),
            "purchase.expired": Counter(),
            "purchase.refunded": Counter(),
        }
        for purchase, bought in self.purchases.items():
            for kind, count in bought.outcome()[2].items():
                found[kind][purchase] = count
        return found
