"""What the model knows of one merchant, and the numbers in its rules. Times are in microseconds."""

import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from operator import attrgetter
from typing import Any, NamedTuple

from billing_stream.audit.verify.shop_trials import TrialClaim

# Purchase ids are derived, so that a purchase has the same id in every replay.
NAMESPACE = uuid.UUID("6f1d3c0a-3d0f-5a58-9a3e-0f5c2f4b7c11")
DAY_US = 86_400_000_000
PAID = ("accepted", "active")
UNPAID = ("declined", "expired", "cancelled", "failed", "frozen")
# What platforms report of a charge, as commands.
WEBHOOKS = ("update", "refund", "refund_failed", "dispute")
# The version of the rules: 1 took any other word for unpaid, compared no amounts, and named shops
# as they came.
RULES = 2
FORGOTTEN = "forgotten"

EventContent = tuple[str, str, int, Decimal | None, object]
"""An event: kind, purchase or adjustment, credits, amount, and the time, platform or reason."""


class Terms(NamedTuple):
    """How many credits were sold, for how much; without a currency where no record has it."""

    credits: int
    amount: str
    currency: str | None
    # Of the catalogue; None: the packs of the settings.
    catalogue_version: int | None = None


class Catalogue(NamedTuple):
    """The packs of today: credits of each, and its prices (decimal text) by currency."""

    packs: Mapping[str, tuple[int, Mapping[str, str]]]
    trial_credits: int
    currency: str

    @classmethod
    def of(cls, settings: Any) -> "Catalogue":
        """That of the settings: the one that workers and everything else have."""
        packs = {name: (pack.credits, pack.prices) for name, pack in settings.packs.items()}
        return cls(packs, settings.trial_credits, settings.currency)

    def terms(self, pack: str, currency: str | None) -> Terms | None:
        """Those of a pack, by default in the default currency; None where there are none."""
        credits, prices = self.packs.get(pack, (0, {}))
        amount = prices.get(currency or self.currency)
        return None if amount is None else Terms(credits, amount, currency or self.currency)


@dataclass(frozen=True, slots=True)
class Rules:
    """The numbers in the contract; those of the settings are given."""

    catalogue: Catalogue = field(kw_only=True)

    trial_us: int = 14 * DAY_US
    expiry_us: int = DAY_US
    record_bytes_max: int = 262_144
    keys_us: int = DAY_US
    keys_max: int = 1000
    parked_max: int = 100
    former_max: int = 100
    # Of a log nobody knows it: only who judges commands as they are made gives it.
    open_max: int = sys.maxsize
    test_clock: bool = False
    ahead_us: int = 3653 * DAY_US
    # As open_max, whether less may be paid.
    discounts: bool = False
    # None: as long as a purchase waits for payment.
    early_us: int | None = None
    reminder_us: int = 3 * DAY_US
    # From when on reminders are published: releases up to 0.5.1 published none.
    reminded_from: int = 0
    # Where the log does not say it: whether the owner of a shop is asked before a trial.
    once_per_shop: bool = False

    @property
    def parked_us(self) -> int:
        """How long a webhook waits for its charge."""
        return self.expiry_us if self.early_us is None else self.early_us


class PurchaseState(NamedTuple):
    """A purchase."""

    credits: int
    amount: str
    platform: str
    created: int
    expires: int
    status: str = "pending"
    charge: str | None = None
    url: str | None = None
    paid: int | None = None
    no_checkout: str | None = None
    back: Decimal = Decimal(0)
    credits_back: int = 0
    version: int = 0
    currency: str | None = None
    pack: str | None = None
    test: bool = False
    catalogue_version: int | None = None
    # How much less was paid; credits that disputes took; what was reported of money that goes back.
    discount: Decimal = Decimal(0)
    disputed: int = 0
    reports: tuple["EarlyWebhook", ...] = ()

    @classmethod
    def opened(
        cls, terms: Terms, pack: str, platform: str, created: int, expires: int
    ) -> "PurchaseState":
        """A pending one."""
        state = cls(terms.credits, terms.amount, platform, created, expires)
        return state._replace(
            currency=terms.currency, pack=pack, catalogue_version=terms.catalogue_version
        )


class AdjustmentState(NamedTuple):
    """An adjustment; `balance` is that after it."""

    credits: int
    reason: str
    balance: int
    at: int
    version: int


class ExtensionState(NamedTuple):
    """An extension of a trial; `period` is the one that began its period, or empty."""

    id: str
    ends: int
    at: int
    reason: str
    days: int | None
    period: str


class EarlyWebhook(NamedTuple):
    """What a webhook says; parked where it came before its charge was known.

    `kind`: complete, fail, refund, refund_failed or dispute. `own` is the refund or dispute.
    """

    charge: str
    kind: str
    amount: str | None
    status: str
    source: str
    at: int
    currency: str | None = None
    charge_amount: str | None = None
    own: str | None = None
    refused_by: str | None = None

    def says(self) -> tuple[str | None, ...]:
        """What it says of the charge: of two that say the same, one waits."""
        status = self.status if self.kind == "dispute" else ""
        more = self.currency, self.charge_amount, self.own
        return self.charge, self.kind, self.amount, status, *more


@dataclass(slots=True)
class State:
    """One merchant. Containers are replaced, never changed: a copy may share them."""

    merchant: str
    created: int | None = None
    platform: str = ""
    domain: str = ""
    used: bool = False
    started: int | None = None
    ends: int | None = None
    ended: bool = False
    reminded: bool = False
    total: int = 0
    last_paid: int | None = None
    clock: int | None = None
    version: int = 0
    sequence: int = 0
    purchases: dict[str, PurchaseState] = field(default_factory=dict)
    charges: dict[str, str] = field(default_factory=dict)
    pending: tuple[tuple[int, str], ...] = ()
    parked: tuple[EarlyWebhook, ...] = ()
    keys: dict[str, tuple[tuple[str, ...], int]] = field(default_factory=dict)
    adjusted: int = 0
    adjustments: dict[str, AdjustmentState] = field(default_factory=dict)
    former: tuple[str, ...] = ()
    forgotten: int | None = None
    installed: int | None = None
    uninstalled: int | None = None
    extensions: tuple[ExtensionState, ...] = ()
    shop_id: str | None = None
    claim: TrialClaim | None = None

    def copy(self) -> "State":
        """A state that can change without this one."""
        return State(*_fields(self))


_fields = attrgetter(*State.__slots__)
