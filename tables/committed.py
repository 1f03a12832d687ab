"""What every store of a partition's committed rows can do, wherever it keeps them."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Protocol

from billing_stream.domain.model import Adjustment, Merchant, Purchase
from billing_stream.domain.outcomes import StoredResponse
from billing_stream.domain.state import Rows


class Redriven(Protocol):
    """Dead letters that were sent again and carried out, with the record that was."""

    def get(self, letter: str, /) -> str | None:
        """The reference of the record that carried out this letter, or None."""

    def __setitem__(self, letter: str, ref: str, /) -> None: ...

    def update(self, refs: Mapping[str, str], /) -> None:
        """Add letters, each with the place of its record."""


class CommittedRows(Rows, Protocol):
    """The committed rows of one partition. Only the lane of the partition writes them.

    What is put can be read after `commit` at the latest; in memory it is at once.
    """

    @property
    def merchants(self) -> Mapping[str, Merchant]:
        """By id."""

    @property
    def purchases(self) -> Mapping[str, Purchase]:
        """By id."""

    @property
    def adjustments(self) -> Mapping[str, Adjustment]:
        """By id."""

    @property
    def shops(self) -> Mapping[str, str]:
        """Merchant ids by `platform:domain`."""

    @property
    def stored_responses(self) -> Mapping[str, Mapping[str, StoredResponse]]:
        """The answers of each merchant that has some, by key, oldest first."""

    @property
    def redriven(self) -> Redriven:
        """By dead letter."""

    def purchases_of(self, merchant_id: str) -> list[Purchase]:
        """All purchases of the merchant, newest first."""

    def purchase_at(self, charge_key: str) -> Purchase | None:
        """The purchase at a key of the charge index: `merchant/charge`."""

    def pending(self, merchant_id: str) -> list[tuple[datetime, str]]:
        """The merchant's pending purchases as (expires_at, id), soonest first."""

    def every_answer(self) -> Iterator[StoredResponse]:
        """All stored answers of the partition."""

    def purchases_page(self, merchant_id: str, skip: int, take: int) -> tuple[list[Purchase], int]:
        """`take` purchases of the merchant after the newest `skip`, and how many it has."""

    def next_due(self, merchant_id: str, parked_for: timedelta) -> datetime | None:
        """When something of this merchant falls due next, or None when nothing will."""

    def put_merchant(self, merchant: Merchant) -> None:
        """Add or replace a merchant."""

    def put_purchase(self, purchase: Purchase) -> None:
        """Add or replace a purchase, and its places in the indexes."""

    def put_answer(self, answer: StoredResponse) -> None:
        """Store the answer to an idempotency key, as the newest."""

    def drop_answer(self, merchant_id: str, key: str) -> None:
        """Forget the answer to an idempotency key, if there is one."""

    def put_adjustment(self, adjustment: Adjustment) -> None:
        """Add an adjustment; none ever changes."""

    def put_shop(self, shop: str, merchant_id: str | None) -> None:
        """Say whose shop `platform:domain` is; None: nobody's."""

    def commit(self) -> None:
        """Make what was put readable, all of it at once."""


class Schedule(Protocol):
    """When something falls due, by key: one live deadline each, the earliest given."""

    def __len__(self) -> int: ...

    def set(self, key: str, due: datetime) -> None:
        """Have `key` taken at `due`, or earlier if it was to be earlier anyway."""

    def first(self) -> datetime | None:
        """The earliest deadline, or None."""

    def count(self, now: datetime, limit: int) -> int:
        """How many keys are due at or before `now`; `limit` at most, which bounds the work."""

    def take(self, now: datetime, limit: int) -> Iterable[str]:
        """Take the keys due at or before `now`, earliest first, `limit` at most."""
