"""What must stand in the end, kept in plain dicts from the contract's rules alone.

Only what was promised is noted: a record when Kafka has acknowledged it, an answer when it
has come. Everything sent leads to the same end in whatever order the topics are read.
"""

from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal

from billing_stream.records.record_ref import RecordRef

PACKS = {"small": (100, "9.99"), "medium": (500, "39.99"), "large": (1000, "69.99")}


"""Topic, partition, offset."""


@dataclass
class PurchaseState:
    """A purchase. `refunds` are what was told to be paid back so far, in order."""

    merchant: str
    pack: str
    paid: bool = False
    declined: bool = False
    refunds: list[Decimal] = field(default_factory=list)

    @property
    def price(self) -> Decimal:
        """Of the pack."""
        return Decimal(PACKS[self.pack][1])

    @property
    def steps(self) -> list[Decimal]:
        """The refunds that paid back more than before."""
        found: list[Decimal] = []
        for amount in self.refunds:
            if not found or amount > found[-1]:
                found.append(amount)
        return found

    @property
    def status(self) -> str:
        """A refund proves the payment; a payment goes before a refusal."""
        if self.steps and self.steps[-1] >= self.price:
            return "refunded"
        if self.paid or self.steps:
            return "completed"
        return "failed" if self.declined else "pending"

    @property
    def credits(self) -> int:
        """What is left of the credits: those of the part paid back, rounded down, are taken."""
        if self.status not in ("completed", "refunded"):
            return 0
        credits = PACKS[self.pack][0]
        back = min(self.steps[-1], self.price) if self.steps else Decimal(0)
        return credits - int(credits * back / self.price)


@dataclass
class Expected:
    """Everything that was promised."""

    domains: dict[str, str] = field(default_factory=dict)
    trials: set[str] = field(default_factory=set)
    purchases: dict[str, PurchaseState] = field(default_factory=dict)
    bad: set[RecordRef] = field(default_factory=set)
    # (merchant, kind of request, key) -> the answer, to the last byte.
    answers: dict[tuple[str, str, str], bytes] = field(default_factory=dict)
    # Whose records may or may not be in Kafka: a producer gave up on one.
    uncertain: set[str] = field(default_factory=set)

    def answered(self, merchant: str, request: str, key: str, raw: bytes) -> str | None:
        """Note an answer; what is wrong when the same request had another one."""
        before = self.answers.setdefault((merchant, request, key), raw)
        if before == raw:
            return None
        return f"{request} with key {key} of {merchant}: {raw!r} after {before!r}"

    def credits(self) -> Counter[str]:
        """The total of each merchant."""
        totals: Counter[str] = Counter(dict.fromkeys(self.domains, 0))
        for bought in self.purchases.values():
            totals[bought.merchant] += bought.credits
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
            if bought.status in ("completed", "refunded"):
                found["credits.purchased"][purchase] = 1
            if bought.declined:
                found["purchase.failed"][purchase] = 1
            if bought.steps:
                found["purchase.refunded"][purchase] = len(bought.steps)
        return found
