"""The numbers in the rules, and the packs that are sold."""

from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType

from msgspec import Struct, field


class Pack(Struct, frozen=True, gc=False):
    """What one purchase buys: whole credits for an amount (decimal text), by currency.

    `title` is shown to merchants; empty: the number of its credits.
    """

    credits: int
    prices: dict[str, str]
    title: str = ""

    @property
    def shown_title(self) -> str:
        """What merchants read."""
        return self.title or f"{self.credits} credits"


PACKS = MappingProxyType(
    {
        "small": Pack(100, {"USD": "9.99"}),
        "medium": Pack(500, {"USD": "39.99"}),
        "large": Pack(1000, {"USD": "69.99"}),
    }
)
"""The packs where the settings name none."""


RULES = 2
"""The version of the rules.

1, up to 0.5.1: a status that is not known fails the purchase, what was paid is not compared, and
shops are named as they come.
"""


class OncePer(StrEnum):
    """Who has one trial: each merchant id, or each shop, whatever merchant ids it had."""

    MERCHANT = "merchant"
    SHOP = "shop"


class Policy(Struct, frozen=True, kw_only=True, gc=False):
    """The numbers in the rules; they come from the settings.

    `currency` (ISO 4217) is that of a purchase that names none, `currency_of_old_rows` that of
    rows that do not say it; None: there must be none.
    """

    trial_duration: timedelta = timedelta(days=14)
    trial_credits: int = 500
    trial_once_per: OncePer = OncePer.MERCHANT
    # None: no end is announced.
    trial_reminder: timedelta | None = timedelta(days=3)
    purchase_expiry: timedelta = timedelta(hours=24)
    answer_retention: timedelta = timedelta(hours=24)
    currency: str = "USD"
    currency_of_old_rows: str | None = None
    packs: dict[str, Pack] = field(default_factory=lambda: dict(PACKS))
    # None: as long as a purchase waits for payment.
    parked_expiry: timedelta | None = None
    parked_max: int = 100
    answers_max: int = 1000
    open_purchases_max: int = 50
    # So many overdue purchases of a merchant expire in one decision.
    expired_per_step: int = 1000
    former_shops_max: int = 100
    test_clock: bool = False
    accept_discounts: bool = False
    rules: int = RULES

    @property
    def early_webhook_expiry(self) -> timedelta:
        """How long a webhook waits for its charge."""
        return self.purchase_expiry if self.parked_expiry is None else self.parked_expiry
