"""A decision in the making: the rules write into it, `decide` seals it."""

from datetime import datetime

from msgspec.structs import replace

from billing_stream.domain.ids import derived_id
from billing_stream.domain.model import Adjustment, Merchant, Purchase, PurchaseStatus
from billing_stream.domain.outcomes import (
    Decision,
    ErrorCode,
    Event,
    EventData,
    Rejected,
    Reply,
    ShopRegistered,
    StoredResponse,
    TrialClaimed,
    UnmatchedWebhook,
)
from billing_stream.domain.reports import ParkedWebhook
from billing_stream.domain.state import State


class Draft:
    """Reads through to the state, keeps every change to itself."""

    __slots__ = (
        "_adjustments",
        "_answers",
        "_changed",
        "_events",
        "_forgotten",
        "_purchases",
        "_sequence",
        "_shops",
        "_unclaimed",
        "_version",
        "asked_at",
        "merchant",
        "now",
        "policy",
        "rows",
        "trial_claims",
    )

    def __init__(self, state: State, now: datetime) -> None:
        if now.tzinfo is None:
            raise ValueError("a time without a time zone")
        merchant = state.merchant
        clock = merchant.updated_at
        self.merchant: Merchant = merchant
        self.asked_at = now
        # A merchant's time never goes back: a late record is decided at the clock.
        self.now = now if clock is None or now > clock else clock
        self.policy = state.policy
        self.rows = state.rows
        self._changed = False
        self._sequence = merchant.sequence
        self._version = merchant.version + 1
        self._purchases: dict[str, Purchase] = {}
        self._answers: dict[str, StoredResponse] = {}
        self._forgotten: list[str] = []
        self._events: list[Event] = []
        self._shops: list[ShopRegistered] = []
        self.trial_claims: list[TrialClaimed] = []
        self._unclaimed: list[UnmatchedWebhook] = []
        self._adjustments: tuple[Adjustment, ...] = ()

    @property
    def exists(self) -> bool:
        """Whether the merchant was created, not only heard of."""
        return self.merchant.created_at is not None

    def unknown(self) -> Rejected | None:
        """The refusal of a command for a merchant that was never created, else None."""
        if self.exists:
            return None
        return self._not_found(f"no billing record of merchant {self.merchant.merchant_id}")

    def gone(self) -> Rejected | None:
        """The refusal of a merchant's own command when it was never created or is forgotten."""
        if self.merchant.forgotten_at is None:
            return self.unknown()
        return self._not_found(f"merchant {self.merchant.merchant_id} was forgotten")

    @staticmethod
    def _not_found(message: str) -> Rejected:
        return Rejected(ErrorCode.MERCHANT_NOT_FOUND, message)

    def purchase(self, purchase_id: str) -> Purchase | None:
        """The merchant's own purchase; another merchant's counts as not found."""
        found = self._purchases.get(purchase_id) or self.rows.purchase(purchase_id)
        return found if found and found.merchant_id == self.merchant.merchant_id else None

    def purchase_of_charge(self, charge_id: str) -> Purchase | None:
        """The merchant's purchase of this charge."""
        found = self.rows.purchase_of_charge(self.merchant.merchant_id, charge_id)
        return self._purchases.get(found.id, found) if found else None

    def open_count(self) -> int:
        """How many pending purchases the merchant has, with what this decision changed."""
        count = self.rows.pending_count(self.merchant.merchant_id)
        for purchase in self._purchases.values():
            before = self.rows.purchase(purchase.id)
            was_open = before is not None and before.status is PurchaseStatus.PENDING
            count += (purchase.status is PurchaseStatus.PENDING) - was_open
        return count

    def change(self, **fields: object) -> None:
        """Change fields of the merchant's row."""
        self.merchant = replace(self.merchant, **fields)
        self._changed = True

    def put(self, purchase: Purchase) -> Purchase:
        """Add or change a purchase, which takes the merchant's new version."""
        if purchase.version != self._version:
            purchase = replace(purchase, version=self._version)
        self._purchases[purchase.id] = purchase
        self._changed = True
        return purchase

    def complete(self, purchase: Purchase) -> Purchase:
        """Move a purchase to completed, now."""
        return self.put(
            replace(
                purchase,
                status=PurchaseStatus.COMPLETED,
                completed_at=self.now,
                version=self._version,
            )
        )

    def settle(self, purchase: Purchase, status: PurchaseStatus) -> Purchase:
        """Move a purchase to another status."""
        return self.put(replace(purchase, status=status, version=self._version))

    def park(self, parked: ParkedWebhook) -> None:
        """Keep a webhook until its charge is known."""
        self.change(parked=(*self.merchant.parked, parked))

    def expire_parked(
        self, parked: ParkedWebhook, others: int = 0, refused: Rejected | None = None
    ) -> None:
        """Give a webhook up to the dead letters; `others` that wait left no room for it."""
        given_up = UnmatchedWebhook(self.merchant.merchant_id, parked, others, refused)
        self._unclaimed.append(given_up)

    def remember(self, answer: StoredResponse) -> None:
        """Store the answer to an idempotency key."""
        self._answers[answer.key] = answer
        self._changed = True

    def forget(self, key: str) -> None:
        """Drop the answer to a key."""
        self._forgotten.append(key)
        self._changed = True

    def answer_count(self) -> int:
        """How many answers the merchant has stored, those just dropped left out."""
        return self.rows.answer_count(self.merchant.merchant_id) - len(self._forgotten)

    def adjust(self, adjustment_id: str, credits: int, reason: str) -> Adjustment:
        """Change the balance, with the row that says so."""
        merchant = self.merchant
        self.change(credits_adjusted=merchant.credits_adjusted + credits)
        made = Adjustment(
            id=adjustment_id,
            merchant_id=merchant.merchant_id,
            credits=credits,
            reason=reason,
            balance=self.merchant.balance,
            created_at=self.now,
            version=self._version,
        )
        self._adjustments += (made,)
        return made

    def register_shop(self, shop: ShopRegistered) -> None:
        """Record the merchant of this domain in the shops table."""
        self._shops.append(shop)

    def publish(self, subject_id: str, data: EventData) -> None:
        """Add an event; `subject_id` (merchant or purchase) makes it the one of its kind."""
        self._sequence += 1
        self._changed = True
        event_id = derived_id(data.kind, subject_id)
        self._events.append(Event(event_id, self._sequence, self.now, data))

    def seal(self, reply: Reply) -> Decision:
        """The finished decision: every changed row carries the merchant's new version."""
        shops, unclaimed = tuple(self._shops), tuple(self._unclaimed)
        if not self._changed:
            return Decision(reply, shops=shops, unclaimed=unclaimed)
        return Decision(
            reply,
            replace(
                self.merchant, version=self._version, sequence=self._sequence, updated_at=self.now
            ),
            tuple(self._purchases.values()),
            tuple(self._answers.values()),
            tuple(self._forgotten),
            tuple(self._events),
            shops,
            unclaimed,
            self._adjustments,
            tuple(self.trial_claims),
        )
