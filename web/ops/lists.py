"""Lists of merchants and purchases from the projection: newest first, by keyset."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any

from msgspec import Struct

from billing_stream.domain.model import Platform, PurchaseStatus
from billing_stream.web.envelope import invalid
from billing_stream.web.pagination import Page, cursor_after
from billing_stream.web.projection import Projection

_KEY = r"[0-9T:.+-]{20,40}_[0-9a-f-]{36}"
_ID_PART = re.compile(r"[0-9a-f-]{1,36}", re.ASCII)
SOUGHT_MAX = 320

_SOUGHT = "(strpos(lower(domain), {}) > 0 OR ({} AND strpos(merchant_id::text, {}) > 0))"
_MERCHANTS = """
SELECT merchant_id::text AS id, platform, domain, created_at, last_purchase_at,
    total_credits_purchased + credits_adjusted AS balance, total_credits_purchased AS purchased,
    trial_started_at, trial_ends_at, updated_at
FROM billing_records WHERE {where} ORDER BY {order} DESC, merchant_id DESC LIMIT {limit}
"""
# The shop of those that are shown only.
_PURCHASES = """
SELECT page.*, r.domain FROM (
    SELECT id::text AS id, merchant_id, status, platform, credits, amount, currency, pack, test,
        created_at, completed_at, platform_charge_id, refunded_amount, refunded_credits,
        disputed_credits
    FROM credit_purchases WHERE {where}
    ORDER BY created_at DESC, credit_purchases.id DESC LIMIT {limit}
) page LEFT JOIN billing_records r USING (merchant_id)
ORDER BY page.created_at DESC, page.id DESC
"""


class Order(StrEnum):
    """Which merchants come first: the newest, or those that paid last (only those that paid)."""

    NEWEST = "newest"
    PAID = "paid"

    @property
    def column(self) -> str:
        """The column that orders them."""
        return "created_at" if self is Order.NEWEST else "last_purchase_at"


class MerchantFilter(Struct, frozen=True):
    """Which merchants: by a part of the domain or of the id where `sought` is not empty."""

    sought: str = ""
    order: Order = Order.NEWEST

    @classmethod
    def of(cls, query: Mapping[str, str]) -> "MerchantFilter":
        """As a query asks; an unknown order is the default."""
        sought = query.get("q", "").strip()[:SOUGHT_MAX]
        order = query.get("order", "")
        return cls(sought, Order(order) if order in list(Order) else Order.NEWEST)

    def query(self) -> dict[str, str]:
        """As the query of an address."""
        return {"q": self.sought, "order": str(self.order)}


class PurchaseFilter(Struct, frozen=True):
    """Which purchases: of a state, of a platform, opened on a day (UTC)."""

    status: PurchaseStatus | None = None
    platform: Platform | None = None
    day: date | None = None

    @classmethod
    def of(cls, query: Mapping[str, str]) -> "PurchaseFilter":
        """As a query asks. Raises ApiError (VALIDATION_ERROR) for what there is not."""
        status, platform, day = (query.get(name, "") for name in ("state", "platform", "day"))
        if status and status not in list(PurchaseStatus):
            raise invalid("state", f"state must be one of {', '.join(PurchaseStatus)}")
        if platform and platform not in list(Platform):
            raise invalid("platform", f"platform must be one of {', '.join(Platform)}")
        try:
            found = date.fromisoformat(day) if day else None
        except ValueError:
            raise invalid("day", "day must be a date, for example 2026-11-30") from None
        if found is not None and not date(2000, 1, 1) <= found < date(9999, 1, 1):
            raise invalid("day", "day must be in the years 2000 to 9998")
        return cls(
            PurchaseStatus(status) if status else None,
            Platform(platform) if platform else None,
            found,
        )

    def query(self) -> dict[str, str]:
        """As the query of an address."""
        day = self.day.isoformat() if self.day else ""
        return {"state": self.status or "", "platform": self.platform or "", "day": day}


class Listed(Struct, frozen=True):
    """A part of a list; `following` is the cursor of what comes after it, None at the end."""

    rows: Sequence[Any]
    following: str | None


class Lists:
    """Reads parts of lists; raises ApiError (NOT_READY) as the projection does."""

    def __init__(self, projection: Projection) -> None:
        self._projection = projection

    async def merchants(self, wanted: MerchantFilter, page: Page) -> Listed:
        """Merchants with a billing record. Raises ApiError (VALIDATION_ERROR) for a cursor."""
        conditions, column = _Conditions(), wanted.order.column
        name, order = f"merchants-{wanted.order}", column
        sought = wanted.sought.lower()
        if sought:
            conditions.require(_SOUGHT, sought, _ID_PART.fullmatch(sought) is not None, sought)
            # One walk over all of them, and not by an index: few, or none, may be found.
            order = f"{column} + interval '0'"
        if wanted.order is Order.PAID:
            conditions.require("last_purchase_at IS NOT NULL")
        conditions.follow(page, name, column, "merchant_id")
        limit = conditions.add(page.limit + 1)
        text = _MERCHANTS.format(where=conditions.text, order=order, limit=limit)
        return await self._list(text, conditions, page, name, column)

    async def purchases(self, wanted: PurchaseFilter, page: Page) -> Listed:
        """Purchases. Raises ApiError (VALIDATION_ERROR) for a cursor of another list."""
        conditions = _Conditions()
        if wanted.status is not None:
            conditions.require("status = {}", str(wanted.status))
        if wanted.platform is not None:
            conditions.require("platform = {}", str(wanted.platform))
        if wanted.day is not None:
            begins = datetime(wanted.day.year, wanted.day.month, wanted.day.day, tzinfo=UTC)
            conditions.require("created_at >= {}", begins)
            conditions.require("created_at < {}", begins + timedelta(days=1))
        conditions.follow(page, "purchases", "created_at", "id")
        limit = conditions.add(page.limit + 1)
        text = _PURCHASES.format(where=conditions.text, limit=limit)
        return await self._list(text, conditions, page, "purchases", "created_at")

    async def _list(
        self, query: str, conditions: "_Conditions", page: Page, name: str, column: str
    ) -> Listed:
        rows = await self._projection.rows(query, *conditions.values)
        # One more than is shown says whether there is more.
        shown = rows[: page.limit]
        if len(rows) <= page.limit:
            return Listed(shown, None)
        last = shown[-1]
        return Listed(shown, cursor_after(name, f"{last[column].isoformat()}_{last['id']}"))


class _Conditions:
    """Conditions of a query, and the values of its parameters."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._required = ["true"]

    @property
    def text(self) -> str:
        """All of them."""
        return " AND ".join(self._required)

    def add(self, *values: Any) -> str:
        """Add values; the parameter of the last one."""
        self.values += values
        return f"${len(self.values)}"

    def require(self, condition: str, *values: Any) -> None:
        """Add a condition, which has {} in the place of each value."""
        self._required.append(condition.format(*(self.add(value) for value in values)))

    def follow(self, page: Page, name: str, order: str, id_column: str) -> None:
        """Only what comes after the cursor of the page."""
        key = page.after(name, _KEY)
        if key is None:
            return
        at, _, last = key.partition("_")
        try:
            moment = datetime.fromisoformat(at)
        except ValueError:
            raise invalid("cursor", "cursor must be one that this list has given") from None
        self.require(f"({order}, {id_column}) < ({{}}, {{}})", moment, last)
