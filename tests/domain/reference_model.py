"""A second telling of the rules, to hold the first against.

Plain dicts and lists, as simple as it can be said, written from the rules as they are
documented. It shares with the domain the commands, which are its input, and nothing else.
"""

from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from billing_stream.domain.commands import (
    AdjustCredits,
    AdvanceClock,
    AdvanceTime,
    AttachCharge,
    Command,
    CreateMerchant,
    FailPurchase,
    ForgetMerchant,
    ImportMerchant,
    OldPurchase,
    RefundCharge,
    ReservePurchase,
    StartTrial,
    UpdateCharge,
)

PACKS = {"small": (100, "9.99"), "medium": (500, "39.99"), "large": (1000, "69.99")}
TRIAL_CREDITS = 500
Row = dict[str, Any]


@dataclass
class Expected:
    """All that must come of a command."""

    at: datetime
    reply: Row = field(default_factory=lambda: {"type": "done"})
    events: list[Row] = field(default_factory=list)
    shops: list[Row] = field(default_factory=list)
    unclaimed: list[Row] = field(default_factory=list)
    changed: bool = False


@dataclass
class Model:
    """Every merchant as a dict, by id."""

    trial: timedelta
    expiry: timedelta
    retention: timedelta
    parked_max: int
    answers_max: int
    former_max: int = 100
    test_clock: bool = False
    open_max: int = 50
    merchants: dict[str, Row] = field(default_factory=dict)

    def of(self, merchant_id: str) -> Row:
        """The merchant, as it is before anything was heard of it if need be."""
        blank: Row = {
            "id": merchant_id,
            "created": None,
            "shop": ("", ""),
            "trial": None,
            "trial_told": False,
            "last_paid": None,
            "purchases": {},
            "parked": [],
            "keys": {},
            "adjustments": {},
            "former": [],
            "forgotten": None,
            "clock": None,
            "version": 0,
            "sequence": 0,
        }
        return self.merchants.setdefault(merchant_id, blank)

    def do(self, command: Command, at: datetime, opened: str | None) -> Expected:
        """Carry out a command. `opened` is what a new purchase or adjustment is called."""
        me = self.of(command.merchant_id)
        before = deepcopy(me)
        now = at if me["clock"] is None else max(at, me["clock"])
        out = Expected(now)
        moved = isinstance(command, AdvanceClock) and self.may_move(me, command, at, out)
        if isinstance(command, AdvanceClock) and moved and command.to > now:
            now = out.at = me["clock"] = command.to
        self.let_time_pass(me, now, out, command.most if isinstance(command, AdvanceTime) else None)
        self.carry_out(me, command, now, opened, out)
        for number, event in enumerate(out.events, me["sequence"] + 1):
            event["sequence"] = number
        me["sequence"] += len(out.events)
        out.changed = me != before
        if out.changed:
            me["version"] += 1
            me["clock"] = now
        return out

    def let_time_pass(self, me: Row, now: datetime, out: Expected, most: int | None) -> None:
        """What fell due happens first, in order: the trial and purchases; then what is parked."""
        due = sorted((p["expires"], p["id"]) for p in self.pending(me) if p["expires"] <= now)
        step = due if most is None else due[:most]
        for expires, purchase_id in step:
            self.end_trial(me, expires, out)
            purchase = me["purchases"][purchase_id]
            purchase["status"] = "expired"
            if purchase["checkout"] is None:
                purchase["no_checkout"] = "the purchase expired before"
            reason = "not paid in time"
            self.tell(out, "purchase.expired", me, purchase_id=purchase_id, reason=reason)
        if len(step) < len(due):
            return
        self.end_trial(me, now, out)
        old = [parked for parked in me["parked"] if parked["at"] + self.expiry <= now]
        out.unclaimed += old
        me["parked"] = [parked for parked in me["parked"] if parked not in old]

    def end_trial(self, me: Row, by: datetime, out: Expected) -> None:
        """The trial ends, if it has ended by then."""
        if self.trial_ends(me) and self.trial_ends(me) <= by:
            me["trial_told"] = True
            self.tell(out, "trial.expired", me, expired_at=me["trial"][1])

    def pending(self, me: Row) -> list[Row]:
        """The purchases that are open."""
        return [p for p in me["purchases"].values() if p["status"] == "pending"]

    def carry_out(
        self, me: Row, command: Command, now: datetime, opened: str | None, out: Expected
    ) -> None:
        """The command itself, when what was due has happened."""
        if isinstance(command, AdvanceTime):
            return
        if isinstance(command, AdvanceClock):
            if out.reply == {"type": "done"}:
                out.reply = {"type": "clock_moved", "now": now}
            return
        if isinstance(command, CreateMerchant):
            self.create(me, command, now, out)
        elif isinstance(command, UpdateCharge | RefundCharge):
            self.hear(me, command, now, out)
        elif isinstance(command, ImportMerchant):
            self.import_merchant(me, command, now, out)
        elif me["created"] is None:
            self.refuse(out, "MERCHANT_NOT_FOUND")
        elif isinstance(command, AdjustCredits):
            self.adjust(me, command, now, opened, out)
        elif isinstance(command, ForgetMerchant):
            self.forget(me, now, out)
        elif isinstance(command, StartTrial | ReservePurchase):
            if me["forgotten"]:
                self.refuse(out, "MERCHANT_NOT_FOUND")
            else:
                self.ask(me, command, now, opened, out)
        elif command.purchase_id not in me["purchases"]:
            self.refuse(out, "PURCHASE_NOT_FOUND")
        elif isinstance(command, FailPurchase):
            purchase = me["purchases"][command.purchase_id]
            if purchase["charge"] is None and purchase["no_checkout"] is None:
                purchase["no_checkout"] = "forgotten" if me["forgotten"] else command.reason
                self.settle(me, command.purchase_id, "fail", command.reason, now, out)
        else:
            self.attach(me, command, now, out)

    def create(self, me: Row, command: CreateMerchant, now: datetime, out: Expected) -> None:
        """A record of one's own, once; a changed shop is registered."""
        shop = (command.platform.lower(), command.domain.lower())
        if me["created"] is None or me["shop"] != shop:
            former = [old for old in self.shops(me) if old != shop]
            while len(former) > self.former_max:
                self.tell_shop(me, former.pop(0), out, gone=True)
            me["former"] = former
            self.tell_shop(me, shop, out, gone=False)
            me["forgotten"] = None
        me["created"] = me["created"] or now
        me["shop"] = shop

    def import_merchant(
        self, me: Row, command: ImportMerchant, now: datetime, out: Expected
    ) -> None:
        """What is not known here, once; of what is known, what went further there."""
        others = [other for other in self.merchants.values() if other is not me]
        names = [old.id.lower() for old in command.purchases]
        if any(name in other["purchases"] for name in names for other in others):
            self.refuse(out, "PURCHASE_NOT_FOUND")
            return
        me["created"] = min(me["created"] or command.created_at, command.created_at)
        me["last_paid"] = self.later(me["last_paid"], command.last_purchase_at)
        if command.platform and command.domain and not me["shop"][1] and not me["forgotten"]:
            me["shop"] = (command.platform.lower(), command.domain.lower())
            self.tell_shop(me, me["shop"], out, gone=False)
        if not command.trial_available and me["trial"] is None:
            started, ends = command.trial_started_at, command.trial_ends_at
            me["trial"] = (started, ends)
            me["trial_told"] = bool(ends and ends <= now)
            self.tell(out, "trial.imported", me, started_at=started, ends_at=ends)
        for old in command.purchases:
            self.bring_purchase(me, old, now, out)

    def bring_purchase(self, me: Row, old: OldPurchase, now: datetime, out: Expected) -> None:
        """Paid there: counted once, unless it was paid here."""
        over = old.status == "pending" and old.expires_at <= now
        status = "expired" if over else str(old.status)
        name = old.id.lower()
        purchase = me["purchases"].get(name)
        if purchase is None:
            purchase = self.purchase(name, None, old.credits, old.amount, old.platform)
            purchase |= {"status": status, "created": old.created_at, "expires": old.expires_at}
            me["purchases"][name] = purchase
        if status == "completed" and purchase["paid"] is None:
            purchase["status"] = status
            purchase["paid"] = old.completed_at or old.created_at
            me["last_paid"] = self.later(me["last_paid"], purchase["paid"])
            said = {field: purchase[field] for field in ("credits", "amount", "platform")}
            self.tell(out, "credits.imported", me, purchase_id=name, **said)
        elif purchase["status"] == "pending":
            purchase["status"] = status
        charge = old.platform_charge_id
        if charge and purchase["charge"] is None and self.by_charge(me, charge) is None:
            purchase["charge"] = charge
            self.claim(me, purchase, now, out)

    @staticmethod
    def later(one: datetime | None, other: datetime | None) -> datetime | None:
        """The later of two times, either of which need not be."""
        return max((time for time in (one, other) if time is not None), default=None)

    @staticmethod
    def trial_ends(me: Row) -> Any:
        """When the trial's end is to be told, if it is."""
        return me["trial"][1] if me["trial"] and not me["trial_told"] else None

    @staticmethod
    def purchase(name: str, cause: str | None, credits: int, amount: str, platform: str) -> Row:
        """A pending purchase without a charge; its times are still to be set."""
        return {
            "id": name,
            "cause": cause,
            "credits": credits,
            "amount": amount,
            "status": "pending",
            "platform": platform,
            "charge": None,
            "checkout": None,
            "paid": None,
            "no_checkout": None,
            "back": Decimal(0),
            "credits_back": 0,
        }

    @staticmethod
    def shops(me: Row) -> list[tuple[str, str]]:
        """All shops of the merchant, each once, the one it has now at the end or where it was."""
        current = [me["shop"]] if me["shop"][1] else []
        return list(dict.fromkeys([*me["former"], *current]))

    @staticmethod
    def tell_shop(me: Row, shop: tuple[str, str], out: Expected, *, gone: bool) -> None:
        """Say whose the shop is."""
        said = {"platform": shop[0], "domain": shop[1], "merchant_id": me["id"], "gone": gone}
        out.shops.append(said)

    def may_move(self, me: Row, command: AdvanceClock, at: datetime, out: Expected) -> bool:
        """Ten years at most, in tests only."""
        if not self.test_clock or command.to > at + timedelta(days=3653):
            self.refuse(out, "CLOCK_REFUSED")
        elif me["created"] is None:
            self.refuse(out, "MERCHANT_NOT_FOUND")
        return out.reply == {"type": "done"}

    def adjust(
        self, me: Row, command: AdjustCredits, now: datetime, name: str | None, out: Expected
    ) -> None:
        """Up or down, never below nothing, once per key for ever."""
        key, asked = command.idempotency_key, (command.credits, command.reason)
        made = me["adjustments"].get(key)
        balance = self.total(me) + self.adjusted(me) + command.credits
        if made is not None and made["asked"] != asked:
            self.refuse(out, "IDEMPOTENCY_KEY_REUSED")
            return
        if made is None and command.credits < 0 and balance < 0:
            self.refuse(out, "INSUFFICIENT_CREDITS")
            return
        if made is None:
            made = {"asked": asked, "balance": balance, "at": now, "id": name}
            me["adjustments"][key] = made
            words = {"credits": command.credits, "reason": command.reason}
            words["merchant_note"] = command.merchant_note
            self.tell(out, "credits.adjusted", me, adjustment_id=made["id"], **words)
        out.reply = {
            "type": "adjustment_made",
            "adjustment_id": made["id"],
            "credits": command.credits,
            "balance": made["balance"],
        }

    def forget(self, me: Row, now: datetime, out: Expected) -> None:
        """What is personal goes; the money trail stays."""
        if me["forgotten"]:
            return
        for shop in self.shops(me):
            self.tell_shop(me, shop, out, gone=True)
        me["shop"] = (me["shop"][0], "")
        me["former"], me["keys"], me["forgotten"] = [], {}, now
        for purchase in me["purchases"].values():
            purchase["checkout"] = None
            if purchase["no_checkout"] is not None:
                purchase["no_checkout"] = "forgotten"
        self.tell(out, "merchant.forgotten", me)

    def ask(
        self,
        me: Row,
        command: StartTrial | ReservePurchase,
        now: datetime,
        opened: str | None,
        out: Expected,
    ) -> None:
        """Trials and purchases, which may have a key."""
        key = command.idempotency_key
        asked: tuple[Any, ...] = ("trial",)
        if isinstance(command, ReservePurchase):
            asked = (command.pack, command.platform, command.return_url)
        if key is None:
            self.grant(me, command, now, opened, out)
            return
        me["keys"] = {k: v for k, v in me["keys"].items() if v["at"] + self.retention > now}
        first = me["keys"].get(key)
        if first is not None and first["asked"] != asked:
            self.refuse(out, "IDEMPOTENCY_KEY_REUSED")
        elif first is not None:
            out.reply = dict(first["reply"])
            if "purchase_id" in out.reply:
                self.open(me["purchases"][out.reply["purchase_id"]], out)
        elif len(me["keys"]) >= self.answers_max:
            self.refuse(out, "TOO_MANY_REQUESTS")
        else:
            self.grant(me, command, now, opened, out)
            if out.reply.get("code") not in ("INVALID_PACK", "TOO_MANY_OPEN_PURCHASES"):
                me["keys"][key] = {"asked": asked, "reply": dict(out.reply), "at": now}

    def grant(
        self,
        me: Row,
        command: StartTrial | ReservePurchase,
        now: datetime,
        opened: str | None,
        out: Expected,
    ) -> None:
        """A trial, once; a pending purchase of a pack, so many at once."""
        if isinstance(command, StartTrial):
            if me["trial"]:
                self.refuse(out, "TRIAL_ALREADY_USED")
                return
            ends_at = now + self.trial
            me["trial"] = (now, ends_at)
            self.tell(out, "trial.started", me, ends_at=ends_at, credits=TRIAL_CREDITS)
            out.reply = {
                "type": "trial_granted",
                "ends_at": ends_at,
                "credits_granted": TRIAL_CREDITS,
            }
            return
        if command.pack not in PACKS:
            self.refuse(out, "INVALID_PACK")
            return
        known = [p for p in me["purchases"].values() if p["cause"] == command.command_id]
        if not known and len(self.pending(me)) >= self.open_max:
            self.refuse(out, "TOO_MANY_OPEN_PURCHASES")
            return
        if not known:
            if opened is None or opened in me["purchases"]:
                raise AssertionError("a new purchase must get an id of its own")
            credits, amount = PACKS[command.pack]
            made = self.purchase(opened, command.command_id, credits, amount, command.platform)
            me["purchases"][opened] = made | {"created": now, "expires": now + self.expiry}
            known = [me["purchases"][opened]]
        self.open(known[0], out)

    def open(self, purchase: Row, out: Expected) -> None:
        """What the one who opens a purchase is told, now and whenever he asks again."""
        if purchase["no_checkout"] is not None:
            self.refuse(out, "PLATFORM_ERROR")
        else:
            out.reply = self.opened(purchase)

    def attach(self, me: Row, command: AttachCharge, now: datetime, out: Expected) -> None:
        """The first charge stays, and a charge belongs to one purchase."""
        purchase = me["purchases"][command.purchase_id]
        if purchase["charge"] is None:
            if self.by_charge(me, command.charge_id):
                self.refuse(out, "CHARGE_MISMATCH")
                return
            purchase["charge"] = command.charge_id
            purchase["checkout"] = None if me["forgotten"] else command.checkout_url
        elif purchase["charge"] != command.charge_id:
            self.refuse(out, "CHARGE_MISMATCH")
            return
        out.reply = self.opened(purchase)
        self.claim(me, purchase, now, out)

    def claim(self, me: Row, purchase: Row, now: datetime, out: Expected) -> None:
        """What waited for the purchase's charge applies now."""
        mine = [parked for parked in me["parked"] if parked["charge_id"] == purchase["charge"]]
        me["parked"] = [parked for parked in me["parked"] if parked not in mine]
        for parked in mine:
            purchase_id, amount = purchase["id"], parked["amount"]
            self.settle(me, purchase_id, parked["kind"], parked["status"], now, out, amount)

    def hear(
        self, me: Row, command: UpdateCharge | RefundCharge, now: datetime, out: Expected
    ) -> None:
        """A webhook: settled when the charge is known, parked until then, never dropped."""
        status = "refunded" if isinstance(command, RefundCharge) else command.status.lower()
        kinds = {"accepted": "complete", "active": "complete", "pending": "nothing"}
        kind = "refund" if isinstance(command, RefundCharge) else kinds.get(status, "fail")
        if kind == "nothing":
            return
        amount = command.amount if isinstance(command, RefundCharge) else None
        purchase_id = self.by_charge(me, command.charge_id)
        if isinstance(command, RefundCharge) and command.purchase_id in me["purchases"]:
            purchase_id = command.purchase_id
        if purchase_id is not None:
            self.settle(me, purchase_id, kind, status, now, out, amount)
            return
        same = (command.charge_id, kind, amount)
        if same in [(p["charge_id"], p["kind"], p["amount"]) for p in me["parked"]]:
            return
        parked = {
            "charge_id": command.charge_id,
            "kind": kind,
            "status": status,
            "source": command.command_id,
            "at": now,
            "amount": amount,
            "purchase_id": getattr(command, "purchase_id", None),
        }
        (out.unclaimed if len(me["parked"]) >= self.parked_max else me["parked"]).append(parked)

    def settle(
        self,
        me: Row,
        purchase_id: str,
        kind: str,
        reason: str,
        now: datetime,
        out: Expected,
        amount: str | None = None,
    ) -> None:
        """Paid once, whatever was before; failed only while pending; a refund was paid."""
        purchase = me["purchases"][purchase_id]
        words = {"purchase_id": purchase_id}
        sums = {**words, "credits": purchase["credits"], "amount": purchase["amount"]}
        if amount is not None and not Decimal(amount):
            return
        if kind == "fail":
            if purchase["status"] == "pending":
                purchase["status"] = "failed"
                self.tell(out, "purchase.failed", me, **words, reason=reason)
            return
        if purchase["status"] not in ("completed", "refunded"):
            purchase["status"] = "completed"
            purchase["paid"] = me["last_paid"] = now
            self.tell(out, "credits.purchased", me, **sums, platform=purchase["platform"])
        if kind == "refund" and purchase["status"] == "completed":
            self.pay_back(me, purchase, amount, out)

    def pay_back(self, me: Row, purchase: Row, amount: str | None, out: Expected) -> None:
        """Credits in proportion to what was paid back so far; all of them with the last cent."""
        price = Decimal(purchase["amount"])
        back = price if amount is None else min(price, Decimal(amount))
        if back <= purchase["back"]:
            return
        credits_back = int(purchase["credits"] * back // price)
        credits = credits_back - purchase["credits_back"]
        step = back - purchase["back"]
        purchase["back"], purchase["credits_back"] = back, credits_back
        if back == price:
            purchase["status"] = "refunded"
        words = {"purchase_id": purchase["id"], "credits": credits, "amount": str(step)}
        self.tell(out, "purchase.refunded", me, **words)

    def next_due(self, merchant_id: str) -> datetime | None:
        """When something of the merchant falls due next."""
        me = self.of(merchant_id)
        due = [p["expires"] for p in me["purchases"].values() if p["status"] == "pending"]
        due += [parked["at"] + self.expiry for parked in me["parked"]]
        if self.trial_ends(me):
            due.append(self.trial_ends(me))
        return min(due, default=None)

    @staticmethod
    def total(me: Row) -> int:
        """Credits bought and not paid back."""
        paid = [p for p in me["purchases"].values() if p["paid"] is not None]
        return sum(p["credits"] - p["credits_back"] for p in paid)

    @staticmethod
    def adjusted(me: Row) -> int:
        """The sum of all adjustments."""
        return sum(made["asked"][0] for made in me["adjustments"].values())

    @staticmethod
    def by_charge(me: Row, charge: str) -> str | None:
        """The merchant's purchase with this charge."""
        return next((p["id"] for p in me["purchases"].values() if p["charge"] == charge), None)

    @staticmethod
    def opened(purchase: Row) -> Row:
        """The answer that tells of a purchase."""
        return {
            "type": "purchase_opened",
            "purchase_id": purchase["id"],
            "credits": purchase["credits"],
            "amount": purchase["amount"],
            "expires_at": purchase["expires"],
            "checkout_url": purchase["checkout"],
        }

    @staticmethod
    def refuse(out: Expected, code: str) -> None:
        """A refusal changes nothing."""
        out.reply = {"type": "rejected", "code": code}

    @staticmethod
    def tell(out: Expected, kind: str, me: Row, **said: Any) -> None:
        """Publish an event."""
        out.events.append({"kind": kind, "merchant_id": me["id"], **said})
