"""Merchants in memory: given what happened, when a command comes, then a decision."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from billing_stream.domain.charges import Charge
from billing_stream.domain.commands import (
    AdjustCredits,
    AdvanceClock,
    AdvanceTime,
    AttachCharge,
    Command,
    CreateMerchant,
    FailPurchase,
    ForgetMerchant,
    RefundCharge,
    ReservePurchase,
    StartTrial,
    UpdateCharge,
)
from billing_stream.domain.decide import decide
from billing_stream.domain.model import Adjustment, Merchant, Platform, Purchase
from billing_stream.domain.outcomes import (
    Decision,
    ErrorCode,
    Event,
    EventData,
    PurchaseOpened,
    Rejected,
    StoredResponse,
)
from billing_stream.domain.policy import Policy
from billing_stream.domain.reports import ParkedWebhook
from billing_stream.domain.shops import Shop
from billing_stream.domain.state import State
from billing_stream.tables.rows import PartitionRows, StagedRows

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
M1 = "11111111-1111-4111-8111-111111111111"
M2 = "22222222-2222-4222-8222-222222222222"
NOBODY = "99999999-9999-4999-8999-999999999999"
CHECKOUT = "https://pay.example/1"

Everything = tuple[
    dict[str, Merchant],
    dict[str, Purchase],
    list[StoredResponse],
    dict[str, Shop],
    dict[str, Adjustment],
    dict[str, Charge],
    dict[str, str],
]


def everything(rows: PartitionRows) -> Everything:
    """All rows as they are now, to be compared with what they are later."""
    return (
        dict(rows.merchants),
        dict(rows.purchases),
        # Within a merchant their order counts, between merchants it does not.
        [a for _, own in sorted(rows.stored_responses.items()) for a in own.values()],
        dict(rows.shops),
        dict(rows.adjustments),
        dict(rows.charges),
        dict(rows.trials),
    )


class World:
    """One partition. Time stands still until `later` moves it."""

    def __init__(self, policy: Policy | None = None, rows: PartitionRows | None = None) -> None:
        self.policy = policy or Policy()
        self.rows: PartitionRows = rows if rows is not None else PartitionRows()
        self.now = NOW
        self.events: list[Event] = []
        self.unclaimed: list[ParkedWebhook] = []
        self._commands = 0

    @property
    def log(self) -> list[EventData]:
        """What all events said, in order."""
        return [event.data for event in self.events]

    def later(self, **by: float) -> "World":
        """Move the clock; negative goes back."""
        self.now += timedelta(**by)
        return self

    def decide(self, command: Command, at: datetime | None = None) -> Decision:
        """The decision on a command, with nothing applied."""
        state = State.of(self.policy, StagedRows(self.rows), command.merchant_id)
        return decide(state, command, at or self.now)

    def do(self, command: Command, at: datetime | None = None) -> Decision:
        """Decide and apply; `at` is the record's time when it is not the clock's."""
        staged = StagedRows(self.rows)
        state = State.of(self.policy, staged, command.merchant_id)
        decision = decide(state, command, at or self.now)
        staged.add(decision)
        staged.apply()
        self.events += decision.events
        self.unclaimed += [unclaimed.parked for unclaimed in decision.unclaimed]
        return decision

    def everything(self) -> Everything:
        """All rows as they are now."""
        return everything(self.rows)

    def merchant(self, merchant_id: str = M1) -> Merchant:
        """The merchant's row."""
        return self.rows.merchants[merchant_id]

    def purchase(self, purchase_id: str) -> Purchase:
        """A purchase's row."""
        return self.rows.purchases[purchase_id]

    def created(self, *merchants: str) -> "World":
        """Given merchants that installed the app."""
        for merchant in merchants or (M1,):
            self.do(CreateMerchant(merchant, "shopify", f"{merchant[:4]}.example", "t[0]@0"))
        return self

    def on_trial(self, merchant: str = M1) -> "World":
        """Given a merchant whose trial was started."""
        self.created(merchant)
        self.do(StartTrial(merchant, command_id="t[0]@1"))
        return self

    def reserve(
        self, merchant: str = M1, pack: str = "small", key: str | None = None, url: str = "/"
    ) -> Decision:
        """Reserve a purchase."""
        self._commands += 1
        return self.do(
            ReservePurchase(
                merchant, pack, Platform.SHOPIFY, url, key, command_id=f"c[0]@{self._commands}"
            )
        )

    def opened(self, merchant: str = M1, pack: str = "small") -> str:
        """Given a pending purchase; its id."""
        reply = self.reserve(merchant, pack).reply
        assert isinstance(reply, PurchaseOpened)
        return reply.purchase_id

    def attach(self, purchase_id: str, charge: str = "charge", merchant: str = M1) -> Decision:
        """Attach a charge."""
        return self.do(AttachCharge(merchant, purchase_id, charge, CHECKOUT))

    def charged(self, charge: str = "charge", merchant: str = M1, pack: str = "small") -> str:
        """Given a pending purchase with a charge; its id."""
        purchase = self.opened(merchant, pack)
        self.attach(purchase, charge, merchant)
        return purchase

    def paid(self, charge: str = "charge", merchant: str = M1, pack: str = "small") -> str:
        """Given a paid purchase; its id."""
        purchase = self.charged(charge, merchant, pack)
        self.webhook("ACTIVE", charge, merchant)
        return purchase

    def webhook(
        self, status: str, charge: str = "charge", merchant: str = M1, source: str = "w[0]@1"
    ) -> Decision:
        """The platform tells a status."""
        return self.do(UpdateCharge(merchant, charge, status, source))

    def refund(self, charge: str = "charge", merchant: str = M1) -> Decision:
        """The platform tells a refund."""
        return self.do(RefundCharge(merchant, charge, "r[0]@1"))

    def no_checkout(self, purchase_id: str, merchant: str = M1) -> Decision:
        """The platform gave no checkout."""
        return self.do(FailPurchase(merchant, purchase_id, "platform error"))

    def adjust(
        self, credits: int, key: str = "key", reason: str = "a gift", merchant: str = M1
    ) -> Decision:
        """An operator gives or takes credits."""
        return self.do(AdjustCredits(merchant, credits, reason, key, "c[0]@1"))

    def forget(self, merchant: str = M1) -> Decision:
        """The merchant is to be forgotten."""
        return self.do(ForgetMerchant(merchant, "c[0]@2"))

    def move_clock(self, to: datetime, merchant: str = M1) -> Decision:
        """The test clock of the merchant is moved."""
        return self.do(AdvanceClock(merchant, to, "c[0]@3"))

    def tick(self, merchant: str = M1) -> Decision:
        """The timer looks at the merchant."""
        return self.do(AdvanceTime(merchant))


def pending_of(rows: PartitionRows, merchant_id: str) -> list[tuple[datetime, str]]:
    """The merchant's pending purchases as (expires_at, id), soonest first."""
    for_ever = datetime.max.replace(tzinfo=UTC)
    return [(p.expires_at, p.id) for p in rows.pending_until(merchant_id, for_ever)]


def told(decision: Decision) -> list[EventData]:
    """What the events of a decision say."""
    return [event.data for event in decision.events]


def kinds(events: Iterable[Event | EventData]) -> list[str]:
    """The kinds of events, in order."""
    return [(event.data if isinstance(event, Event) else event).kind for event in events]


def writes_nothing(decision: Decision) -> bool:
    """Whether the decision is its reply and nothing else."""
    return decision == Decision(decision.reply)


def code_of(decision: Decision) -> ErrorCode | None:
    """The code of a refusal, or None when it is none."""
    return decision.reply.code if isinstance(decision.reply, Rejected) else None
