"""Merchants in memory: given what happened, when a command comes, then a decision."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from billing_stream.domain.commands import (
    AttachCharge,
    Command,
    CreateMerchant,
    RefundCharge,
    ReservePurchase,
    StartTrial,
    UpdateCharge,
)
from billing_stream.domain.decide import decide
from billing_stream.domain.model import Merchant, Platform, Policy, Purchase
from billing_stream.domain.outcomes import Decision, EventData, PurchaseOpened
from billing_stream.domain.state import State
from tables.rows import PartitionRows, StagedRows

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
M1 = "11111111-1111-4111-8111-111111111111"
M2 = "22222222-2222-4222-8222-222222222222"


class World:
    """One partition. Time stands still until `later` moves it."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.policy = policy or Policy()
        self.rows = PartitionRows()
        self.now = NOW
        self.log: list[EventData] = []
        self._commands = 0

    def later(self, **by: float) -> "World":
        """Move the clock; negative goes back."""
        self.now += timedelta(**by)
        return self

    def decide(self, command: Command) -> Decision:
        """The decision on a command, with nothing applied."""
        staged = StagedRows(self.rows)
        return decide(State.of(self.policy, staged, command.merchant_id), command, self.now)

    def do(self, command: Command) -> Decision:
        """Decide and apply."""
        staged = StagedRows(self.rows)
        state = State.of(self.policy, staged, command.merchant_id)
        decision = decide(state, command, self.now)
        staged.add(decision)
        staged.apply()
        self.log += [event.data for event in decision.events]
        return decision

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

    def attach(self, purchase_id: str, charge: str, merchant: str = M1) -> Decision:
        """Attach a charge."""
        return self.do(AttachCharge(merchant, purchase_id, charge, "https://pay.example/1"))

    def charged(self, charge: str = "charge", merchant: str = M1, pack: str = "small") -> str:
        """Given a pending purchase with a charge; its id."""
        purchase = self.opened(merchant, pack)
        self.attach(purchase, charge, merchant)
        return purchase

    def webhook(self, status: str, charge: str = "charge", merchant: str = M1) -> Decision:
        """The platform tells a status."""
        return self.do(UpdateCharge(merchant, charge, status, "w[0]@1"))

    def refund(self, charge: str = "charge", merchant: str = M1) -> Decision:
        """The platform tells a refund."""
        return self.do(RefundCharge(merchant, charge, "r[0]@1"))


def kinds(events: Iterable[object]) -> list[str]:
    """The kinds of events, in order."""
    return [getattr(event, "data", event).kind for event in events]  # type: ignore[attr-defined]
