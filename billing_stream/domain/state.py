"""What a decision may read: one merchant's rows and the policy. It is never written here."""

from collections.abc import Iterable
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from billing_stream.domain.catalogue import CatalogueVersion
from billing_stream.domain.model import Adjustment, Merchant, Purchase
from billing_stream.domain.outcomes import StoredResponse
from billing_stream.domain.policy import Policy


class Rows(Protocol):
    """The rows of a partition, by key.

    Every call but `purchases_of` costs the same however many there are. `versions` are those of
    the catalogue that the partition knows.
    """

    @property
    def versions(self) -> tuple[CatalogueVersion, ...]:
        """Versions of the catalogue, in the order in which they were set."""

    def merchant(self, merchant_id: str) -> Merchant | None:
        """The merchant's row, or None when nothing was ever heard of it."""

    def purchase(self, purchase_id: str) -> Purchase | None:
        """The purchase with this id, of any merchant."""

    def purchase_of_charge(self, merchant_id: str, charge_id: str) -> Purchase | None:
        """The merchant's purchase that this charge is attached to."""

    def purchases_of(self, merchant_id: str) -> Iterable[Purchase]:
        """All purchases of the merchant."""

    def adjustment(self, adjustment_id: str) -> Adjustment | None:
        """The adjustment with this id."""

    def pending_until(self, merchant_id: str, moment: datetime) -> Iterable[Purchase]:
        """The merchant's pending purchases that expire at or before `moment`, soonest first."""

    def pending_count(self, merchant_id: str) -> int:
        """How many pending purchases the merchant has."""

    def answer(self, merchant_id: str, key: str) -> StoredResponse | None:
        """The stored answer to an idempotency key."""

    def answers(self, merchant_id: str) -> Iterable[StoredResponse]:
        """The merchant's stored answers, oldest first."""

    def answer_count(self, merchant_id: str) -> int:
        """How many answers are stored for the merchant."""


class State(Struct, frozen=True, gc=False):
    """One merchant, as `decide` reads it. A merchant never heard of has a blank row."""

    policy: Policy
    rows: Rows
    merchant: Merchant

    @classmethod
    def of(cls, policy: Policy, rows: Rows, merchant_id: str) -> "State":
        """The state of this merchant, which need not exist."""
        merchant = rows.merchant(merchant_id)
        return cls(policy, rows, merchant or Merchant(merchant_id=merchant_id))
