"""The contract as a plain state machine: one merchant, one command, what must come of it.

It shares nothing with the code that it judges. Times are microseconds since the epoch.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from operator import attrgetter
from typing import NamedTuple

from billing_stream.verify.inputs import Said

# Purchase ids are derived, so that a purchase has the same id in every replay.
NAMESPACE = uuid.UUID("6f1d3c0a-3d0f-5a58-9a3e-0f5c2f4b7c11")
DAY_US = 86_400_000_000
PAID = ("accepted", "active")

Told = tuple[str, str, int, Decimal | None, object]
"""An event: kind, purchase, credits, amount, and the time, platform or reason it gives."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The numbers in the contract; the first three come from the settings."""

    trial_us: int = 14 * DAY_US
    expiry_us: int = DAY_US
    record_bytes_max: int = 262_144
    trial_credits: int = 500
    keys_us: int = DAY_US
    keys_max: int = 1000
    parked_max: int = 100
    packs: dict[str, tuple[int, str]] = field(
        default_factory=lambda: {
            "small": (100, "9.99"),
            "medium": (500, "39.99"),
            "large": (1000, "69.99"),
        }
    )


class Bought(NamedTuple):
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
    no_checkout: bool = False
    back: Decimal = Decimal(0)
    credits_back: int = 0
    version: int = 0


class Waiting(NamedTuple):
    """A webhook that came before its charge was known. `kind`: complete, fail or refund."""

    charge: str
    kind: str
    amount: str | None
    status: str
    source: str
    at: int


@dataclass(slots=True)
class State:
    """One merchant. Containers are replaced, never changed: a copy may share them."""

    merchant: str
    created: int | None = None
    platform: str = ""
    domain: str = ""
    started: int | None = None
    ends: int | None = None
    ended: bool = False
    total: int = 0
    last_paid: int | None = None
    clock: int | None = None
    version: int = 0
    sequence: int = 0
    purchases: dict[str, Bought] = field(default_factory=dict)
    charges: dict[str, str] = field(default_factory=dict)
    pending: tuple[tuple[int, str], ...] = ()
    parked: tuple[Waiting, ...] = ()
    keys: dict[str, tuple[tuple[str, ...], int]] = field(default_factory=dict)

    def copy(self) -> "State":
        """A state that can change without this one."""
        return State(*_fields(self))

    def identity(self) -> tuple[object, ...]:
        """Equal for states that can have the same future."""
        return (
            self.created,
            self.platform,
            self.domain,
            self.ends,
            self.ended,
            self.clock,
            self.version,
            frozenset(self.purchases.items()),
            self.parked,
            tuple(self.keys.items()),
        )


_fields = attrgetter(*State.__slots__)


class Step:
    """What one command does: the state after it and what must have been told."""

    __slots__ = ("_rules", "changed", "events", "given_up", "now", "refusal", "shops", "state")

    def __init__(self, rules: Rules, before: State, said: Said, at_us: int) -> None:
        self._rules = rules
        self.state = before.copy()
        clock = before.clock
        # A merchant's time never goes back.
        self.now = at_us if clock is None or at_us > clock else clock
        self.events: list[Told] = []
        self.given_up: list[Waiting] = []
        self.shops: list[str] = []
        self.refusal: str | None = None
        self.changed = False
        self._let_time_pass()
        self._carry_out(said)
        if self.changed:
            self.state.version += 1
            self.state.sequence += len(self.events)
            self.state.clock = self.now

    def _let_time_pass(self) -> None:
        """What fell due happens before the command: no late timer changes an outcome."""
        me, now = self.state, self.now
        if me.ends is not None and not me.ended and me.ends <= now:
            me.ended = True
            self._tell("trial.expired", "", 0, None, me.ends)
        while me.pending and me.pending[0][0] <= now:
            purchase = me.pending[0][1]
            bought = me.purchases[purchase]
            expired = bought._replace(status="expired", no_checkout=bought.url is None)
            self._put(purchase, expired)
            self._tell("purchase.expired", purchase)
        if me.parked and me.parked[0].at + self._rules.expiry_us <= now:
            limit = now - self._rules.expiry_us
            self.given_up += [waiting for waiting in me.parked if waiting.at <= limit]
            me.parked = tuple(waiting for waiting in me.parked if waiting.at > limit)
            self.changed = True

    def _carry_out(self, said: Said) -> None:
        command = said.command
        if command == "update":
            self._update(said)
        elif command == "refund":
            known = said.purchase if said.purchase in self.state.purchases else None
            self._hear(said, "refund", "refunded", known)
        elif command == "create":
            self._create(said)
        elif command == "time":
            return
        elif self.state.created is None:
            self.refusal = "MERCHANT_NOT_FOUND"
        elif command == "trial":
            self._once(said, ("trial",), self._start_trial)
        elif command == "reserve":
            self._once(said, (said.text, said.platform, said.url), self._reserve)
        elif said.purchase not in self.state.purchases:
            self.refusal = "PURCHASE_NOT_FOUND"
        elif command == "attach":
            self._attach(said)
        else:
            self._no_checkout(said)

    def _create(self, said: Said) -> None:
        me, shop = self.state, (said.platform.lower(), said.text.lower())
        if me.created is not None and (me.platform, me.domain) == shop:
            return
        me.platform, me.domain = shop
        if me.created is None:
            me.created = self.now
        self.shops.append(":".join(shop))
        self.changed = True

    def _once(self, said: Said, asked: tuple[str, ...], rule: Callable[[Said], None]) -> None:
        """The first answer to a key is the answer, for a day."""
        me, rules = self.state, self._rules
        if said.key is None:
            rule(said)
            return
        kept = {k: v for k, v in me.keys.items() if v[1] + rules.keys_us > self.now}
        if len(kept) != len(me.keys):
            me.keys, self.changed = kept, True
        first = me.keys.get(said.key)
        if first is not None:
            self._answer_again(said, asked, first[0])
        elif len(me.keys) >= rules.keys_max:
            self.refusal = "TOO_MANY_REQUESTS"
        else:
            rule(said)
            if self.refusal != "INVALID_PACK":
                # What is kept beside the question: which purchase or refusal answered it.
                answer = (self.refusal or "", self._purchase_id(said))
                me.keys = {**me.keys, said.key: ((*asked, *answer), self.now)}
                self.changed = True

    def _answer_again(self, said: Said, asked: tuple[str, ...], kept: tuple[str, ...]) -> None:
        *first_asked, refusal, purchase = kept
        if tuple(first_asked) != asked:
            self.refusal = "IDEMPOTENCY_KEY_REUSED"
        elif refusal:
            self.refusal = refusal
        elif said.command == "reserve":
            self._open(self.state.purchases[purchase])

    def _start_trial(self, said: Said) -> None:
        me = self.state
        if me.started is not None:
            self.refusal = "TRIAL_ALREADY_USED"
            return
        me.started, me.ends = self.now, self.now + self._rules.trial_us
        self._tell("trial.started", "", self._rules.trial_credits, None, me.ends)

    def _purchase_id(self, said: Said) -> str:
        name = f"purchase/{self.state.merchant}/{said.command_id}"
        return str(uuid.uuid5(NAMESPACE, name)) if said.command == "reserve" else ""

    def _reserve(self, said: Said) -> None:
        me = self.state
        pack = self._rules.packs.get(said.text)
        if pack is None:
            self.refusal = "INVALID_PACK"
            return
        purchase = self._purchase_id(said)
        if purchase not in me.purchases:
            expires = self.now + self._rules.expiry_us
            self._put(purchase, Bought(*pack, said.platform, self.now, expires))
        self._open(me.purchases[purchase])

    def _open(self, bought: Bought) -> None:
        if bought.no_checkout:
            self.refusal = "PLATFORM_ERROR"

    def _attach(self, said: Said) -> None:
        me, bought = self.state, self.state.purchases[said.purchase]
        if bought.charge is not None:
            self.refusal = None if bought.charge == said.charge else "CHARGE_MISMATCH"
            return
        if said.charge in me.charges:
            self.refusal = "CHARGE_MISMATCH"
            return
        self._put(said.purchase, bought._replace(charge=said.charge, url=said.url))
        me.charges = {**me.charges, said.charge: said.purchase}
        mine = [waiting for waiting in me.parked if waiting.charge == said.charge]
        me.parked = tuple(waiting for waiting in me.parked if waiting.charge != said.charge)
        for waiting in mine:
            self._settle(said.purchase, waiting)

    def _no_checkout(self, said: Said) -> None:
        bought = self.state.purchases[said.purchase]
        if bought.charge is not None or bought.no_checkout:
            return
        pending = bought.status == "pending"
        status = "failed" if pending else bought.status
        self._put(said.purchase, bought._replace(status=status, no_checkout=True))
        if pending:
            self._tell("purchase.failed", said.purchase, 0, None, said.text.lower())

    def _update(self, said: Said) -> None:
        status = said.text.lower()
        if status != "pending":
            self._hear(said, "complete" if status in PAID else "fail", status, None)

    def _hear(self, said: Said, kind: str, status: str, known: str | None) -> None:
        """A webhook settles the purchase of its charge, or waits for it."""
        me = self.state
        webhook = Waiting(said.charge, kind, said.amount, status, said.command_id, self.now)
        purchase = known or me.charges.get(said.charge)
        if purchase is not None:
            self._settle(purchase, webhook)
        elif any(waiting[:3] == webhook[:3] for waiting in me.parked):
            return
        elif len(me.parked) >= self._rules.parked_max:
            self.given_up.append(webhook)
        else:
            me.parked = (*me.parked, webhook)
            self.changed = True

    def _settle(self, purchase: str, webhook: Waiting) -> None:
        """Paid once, whatever was before; failed only while pending; a refund was paid."""
        me, bought = self.state, self.state.purchases[purchase]
        if webhook.kind == "fail":
            if bought.status == "pending":
                self._put(purchase, bought._replace(status="failed"))
                self._tell("purchase.failed", purchase, 0, None, webhook.status)
            return
        if webhook.amount is not None and not Decimal(webhook.amount):
            # Nothing was paid back, which proves no payment.
            return
        if bought.status not in ("completed", "refunded"):
            bought = self._put(purchase, bought._replace(status="completed", paid=self.now))
            me.total += bought.credits
            me.last_paid = self.now
            amount = Decimal(bought.amount)
            self._tell("credits.purchased", purchase, bought.credits, amount, bought.platform)
        if webhook.kind == "refund" and bought.status == "completed":
            self._pay_back(purchase, bought, webhook.amount)

    def _pay_back(self, purchase: str, bought: Bought, amount: str | None) -> None:
        """Credits in proportion to all that was paid back, rounded down."""
        price = Decimal(bought.amount)
        back = price if amount is None else min(price, Decimal(amount))
        if back <= bought.back:
            return
        credits_back = int(bought.credits * back // price)
        taken = credits_back - bought.credits_back
        status = "refunded" if back == price else bought.status
        changed = bought._replace(back=back, credits_back=credits_back, status=status)
        self._put(purchase, changed)
        self.state.total -= taken
        self._tell("purchase.refunded", purchase, taken, back - bought.back)

    def _put(self, purchase: str, bought: Bought) -> Bought:
        me = self.state
        old = me.purchases.get(purchase)
        bought = bought._replace(version=me.version + 1)
        me.purchases = {**me.purchases, purchase: bought}
        if bought.status == "pending":
            if old is None:
                me.pending = tuple(sorted((*me.pending, (bought.expires, purchase))))
        elif old is not None and old.status == "pending":
            me.pending = tuple(entry for entry in me.pending if entry[1] != purchase)
        self.changed = True
        return bought

    def _tell(
        self,
        kind: str,
        purchase: str,
        credits: int = 0,
        amount: Decimal | None = None,
        more: object = "",
    ) -> None:
        self.events.append((kind, purchase, credits, amount, more))
        self.changed = True
