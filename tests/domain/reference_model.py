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
    AttachCharge,
    Command,
    CreateMerchant,
    FailPurchase,
    PassTime,
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
            "clock": None,
            "version": 0,
            "sequence": 0,
        }
        return self.merchants.setdefault(merchant_id, blank)

    def do(self, command: Command, at: datetime, opened: str | None) -> Expected:
        """Carry out a command. `opened` is what a new purchase is called."""
        me = self.of(command.merchant_id)
        before = deepcopy(me)
        now = at if me["clock"] is None else max(at, me["clock"])
        out = Expected(now)
        self.let_time_pass(me, now, out)
        self.carry_out(me, command, now, opened, out)
        for number, event in enumerate(out.events, me["sequence"] + 1):
            event["sequence"] = number
        me["sequence"] += len(out.events)
        out.changed = me != before
        if out.changed:
            me["version"] += 1
            me["clock"] = now
        return out

    def let_time_pass(self, me: Row, now: datetime, out: Expected) -> None:
        """What fell due happens first: the trial, then purchases, then what is parked."""
        if me["trial"] and me["trial"][1] <= now and not me["trial_told"]:
            me["trial_told"] = True
            self.tell(out, "trial.expired", me, expired_at=me["trial"][1])
        due = [(p["expires"], p["id"]) for p in me["purchases"].values()]
        for expires, purchase_id in sorted(due):
            purchase = me["purchases"][purchase_id]
            if purchase["status"] == "pending" and expires <= now:
                purchase["status"] = "expired"
                if purchase["checkout"] is None:
                    purchase["no_checkout"] = "the purchase expired before"
                reason = "not paid in time"
                self.tell(out, "purchase.expired", me, purchase_id=purchase_id, reason=reason)
        old = [parked for parked in me["parked"] if parked["at"] + self.expiry <= now]
        out.unclaimed += old
        me["parked"] = [parked for parked in me["parked"] if parked not in old]

    def carry_out(
        self, me: Row, command: Command, now: datetime, opened: str | None, out: Expected
    ) -> None:
        """The command itself, when what was due has happened."""
        if isinstance(command, PassTime):
            return
        if isinstance(command, CreateMerchant):
            self.create(me, command, now, out)
        elif isinstance(command, UpdateCharge | RefundCharge):
            self.hear(me, command, now, out)
        elif me["created"] is None:
            self.refuse(out, "MERCHANT_NOT_FOUND")
        elif isinstance(command, StartTrial | ReservePurchase):
            self.ask(me, command, now, opened, out)
        elif command.purchase_id not in me["purchases"]:
            self.refuse(out, "PURCHASE_NOT_FOUND")
        elif isinstance(command, FailPurchase):
            purchase = me["purchases"][command.purchase_id]
            if purchase["charge"] is None and purchase["no_checkout"] is None:
                purchase["no_checkout"] = command.reason
                self.settle(me, command.purchase_id, "fail", command.reason, now, out)
        else:
            self.attach(me, command, now, out)

    def create(self, me: Row, command: CreateMerchant, now: datetime, out: Expected) -> None:
        """A record of one's own, once; a changed shop is registered."""
        shop = (command.platform.lower(), command.domain.lower())
        if me["created"] is None or me["shop"] != shop:
            out.shops.append({"platform": shop[0], "domain": shop[1], "merchant_id": me["id"]})
        me["created"] = me["created"] or now
        me["shop"] = shop

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
            if out.reply.get("code") != "INVALID_PACK":
                me["keys"][key] = {"asked": asked, "reply": dict(out.reply), "at": now}

    def grant(
        self,
        me: Row,
        command: StartTrial | ReservePurchase,
        now: datetime,
        opened: str | None,
        out: Expected,
    ) -> None:
        """A trial, once; a pending purchase of a pack, as often as one likes."""
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
        if not known:
            if opened is None or opened in me["purchases"]:
                raise AssertionError("a new purchase must get an id of its own")
            credits, amount = PACKS[command.pack]
            me["purchases"][opened] = {
                "id": opened,
                "cause": command.command_id,
                "credits": credits,
                "amount": amount,
                "status": "pending",
                "platform": command.platform,
                "charge": None,
                "checkout": None,
                "created": now,
                "paid": None,
                "expires": now + self.expiry,
                "no_checkout": None,
                "back": Decimal(0),
                "credits_back": 0,
            }
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
            purchase["checkout"] = command.checkout_url
        elif purchase["charge"] != command.charge_id:
            self.refuse(out, "CHARGE_MISMATCH")
            return
        out.reply = self.opened(purchase)
        mine = [parked for parked in me["parked"] if parked["charge_id"] == command.charge_id]
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
        if me["trial"] and not me["trial_told"]:
            due.append(me["trial"][1])
        return min(due, default=None)

    @staticmethod
    def total(me: Row) -> int:
        """Credits bought and not paid back."""
        paid = [p for p in me["purchases"].values() if p["paid"] is not None]
        return sum(p["credits"] - p["credits_back"] for p in paid)

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
