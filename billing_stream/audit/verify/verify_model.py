"""The contract as a plain state machine: one merchant, one command, its outcome.

It shares nothing with the code that it judges. Times are microseconds since the epoch.
"""

import uuid
from collections.abc import Callable, Iterable
from decimal import Decimal

from billing_stream.audit.verify import limits, sold_terms, trial_model
from billing_stream.audit.verify.installation_model import AHEAD_MAX, Claim, Installations
from billing_stream.audit.verify.model_state import (
    FORGOTTEN,
    NAMESPACE,
    WEBHOOKS,
    AdjustmentState,
    EarlyWebhook,
    EventContent,
    PurchaseState,
    Rules,
    State,
)
from billing_stream.audit.verify.releases import Old, OldPurchase
from billing_stream.audit.verify.verify_inputs import SET_SHOP, ParsedCommand
from billing_stream.audit.verify.verify_trials import Trials

# What a forgotten merchant is refused.
_OF_PRESENT_ONES = ("trial", "reserve", "extend", SET_SHOP)


class Step(Installations, Trials):
    """What one command does: the state after it and what must have been published."""

    __slots__ = ()

    def __init__(self, rules: Rules, before: State, parsed: ParsedCommand, at_us: int) -> None:
        self._rules = rules
        self.state = before.copy()
        clock = before.clock
        # A merchant's time never goes back.
        self.now = at_us if clock is None or at_us > clock else clock
        self.events: list[EventContent] = []
        self.given_up: list[EarlyWebhook] = []
        self.shops: list[Claim] = []
        self.superseded = False
        self.claims: list[tuple[str, str]] = []
        self.waits = False
        self.refusal: str | None = None
        self.changed = False
        if parsed.command == "clock":
            self._move_clock(parsed, at_us)
        self._let_time_pass(parsed.number if parsed.command == "time" else 0)
        self._carry_out(parsed)
        self.claim_trial(trial_model.claim_used(self.state, before.used, parsed.command))
        if self.changed:
            self.state.version += 1
            self.state.sequence += len(self.events)
            self.state.clock = self.now

    def _let_time_pass(self, most: int) -> None:
        """What fell due happens before the command, `most` purchases at once if that is not 0."""
        me, now = self.state, self.now
        overdue = [entry for entry in me.pending if entry[0] <= now]
        step = overdue[:most] if most else overdue
        for expires, purchase in step:
            self._publish_all(trial_model.let_time_pass(me, self._rules, now, expires))
            self.expire(purchase, "not paid in time")
        if len(step) < len(overdue):
            return
        self._publish_all(trial_model.let_time_pass(me, self._rules, now, now))
        if me.parked and me.parked[0].at + self._rules.parked_us <= now:
            limit = now - self._rules.parked_us
            self.given_up += [waiting for waiting in me.parked if waiting.at <= limit]
            me.parked = tuple(waiting for waiting in me.parked if waiting.at > limit)
            self.changed = True

    def _move_clock(self, parsed: ParsedCommand, at_us: int) -> None:
        me, rules = self.state, self._rules
        if not rules.test_clock or parsed.number > at_us + rules.ahead_us:
            self.refusal = "CLOCK_REFUSED"
        elif me.created is None:
            self.refusal = "MERCHANT_NOT_FOUND"
        elif parsed.number > self.now:
            self.now, self.changed = parsed.number, True

    def _carry_out(self, parsed: ParsedCommand) -> None:
        command = parsed.command
        if command == "update":
            self.update(parsed)
        elif command in WEBHOOKS:
            known = parsed.purchase if parsed.purchase in self.state.purchases else None
            self.hear(parsed, command, parsed.text, known)
        elif command == "create":
            self.create(parsed)
        elif command == "import" and parsed.old is not None:
            self._bring_in(parsed, parsed.old)
        elif command in ("time", "clock"):
            return
        elif self.state.created is None:
            self.refusal = "MERCHANT_NOT_FOUND"
        elif command == "answer":
            self.hear_owner(parsed)
        elif command == "adjust":
            self._adjust(parsed)
        elif command == "forget":
            self.forget(parsed)
        elif command == "uninstall":
            self.uninstall(parsed)
        elif (
            command in ("trial", "reserve", "extend", "set_shop")
            and self.state.forgotten is not None
        ):
            self.refusal = "MERCHANT_NOT_FOUND"
        elif command == "extend":
            self.refusal, events = trial_model.extend(self.state, self._rules, self.now, parsed)
            self._publish_all(events)
        elif command == SET_SHOP:
            self._once(parsed, (parsed.platform, parsed.text, parsed.note or ""), self.set_shop)
        elif command == "trial":
            self._once(parsed, ("trial",), self.start_trial)
        elif command == "reserve":
            asked = (parsed.text, parsed.platform, parsed.url, parsed.currency or "")
            self._once(parsed, asked, self._reserve)
        elif parsed.purchase not in self.state.purchases:
            self.refusal = "PURCHASE_NOT_FOUND"
        elif command == "attach":
            self._attach(parsed)
        else:
            self._no_checkout(parsed)

    def _bring_in(self, parsed: ParsedCommand, old: Old) -> None:
        """Unknown data comes in, once; what happened here stays."""
        me = self.state
        if parsed.purchase:
            self.refusal = "PURCHASE_NOT_FOUND"
            return
        if me.created is None or old.created < me.created:
            me.created, self.changed = old.created, True
        self._paid_by(old.last_paid)
        if parsed.platform and parsed.text and not me.domain and me.forgotten is None:
            shop = self.named_shop(parsed)
            if shop is not None:
                me.platform, me.domain = shop
                at = old.created if old.created <= self.now + AHEAD_MAX else None
                self.shops.append(Claim(":".join(shop), None, at))
                self.changed = True
        if old.used and not me.used:
            me.used, me.started, me.ends = True, old.started, old.ends
            me.ended = old.ends is not None and old.ends <= self.now
            self.publish("trial.imported", "", 0, None, (old.started, old.ends))
        for purchase in old.purchases:
            self._bring_purchase(purchase)

    def _bring_purchase(self, old: OldPurchase) -> None:
        """A new one as it was; a known one continues: to paid, or from pending to unpaid."""
        me = self.state
        overdue = old.status == "pending" and old.expires <= self.now
        status = "expired" if overdue else old.status
        known = me.purchases.get(old.id)
        sold = (old.credits, old.amount, old.platform, old.created, old.expires)
        bought = known or PurchaseState(*sold, status, currency=old.currency)
        if bought.status == "pending" or (
            status == "completed" and bought.status in ("failed", "expired")
        ):
            bought = bought._replace(status=status)
        charge = None
        if old.charge is not None and bought.charge is None and old.charge not in me.charges:
            charge = old.charge
            bought = bought._replace(charge=charge)
        if bought.status == "completed" and bought.paid is None:
            bought = bought._replace(paid=old.created if old.paid is None else old.paid)
            me.total += bought.credits
            self._paid_by(bought.paid)
            amount = Decimal(bought.amount)
            self.publish("credits.imported", old.id, bought.credits, amount, bought.platform)
        if bought != known:
            self.put(old.id, bought)
        if charge is not None:
            self._claim(old.id, charge)

    def _paid_by(self, moment: int | None) -> None:
        me = self.state
        if moment is not None and (me.last_paid is None or me.last_paid < moment):
            me.last_paid, self.changed = moment, True

    def _adjust(self, parsed: ParsedCommand) -> None:
        """Once per key, permanently; the balance never becomes negative."""
        me = self.state
        adjustment = str(uuid.uuid5(NAMESPACE, f"adjustment/{me.merchant}/{parsed.key}"))
        before = me.adjustments.get(adjustment)
        balance = me.total + me.adjusted + parsed.number
        if before is not None:
            if before[:2] != (parsed.number, parsed.text):
                self.refusal = "IDEMPOTENCY_KEY_REUSED"
        elif parsed.number < 0 and balance < 0:
            self.refusal = "INSUFFICIENT_CREDITS"
        else:
            made = AdjustmentState(parsed.number, parsed.text, balance, self.now, me.version + 1)
            me.adjustments = {**me.adjustments, adjustment: made}
            me.adjusted += parsed.number
            texts = (parsed.text, parsed.note)
            self.publish("credits.adjusted", adjustment, parsed.number, None, texts)

    def _once(
        self, parsed: ParsedCommand, asked: tuple[str, ...], rule: Callable[[ParsedCommand], None]
    ) -> None:
        """The first answer to a key is the answer, for a day."""
        me, rules = self.state, self._rules
        if parsed.key is None:
            rule(parsed)
            return
        kept = {k: v for k, v in me.keys.items() if v[1] + rules.keys_us > self.now}
        if len(kept) != len(me.keys):
            me.keys, self.changed = kept, True
        first = me.keys.get(parsed.key)
        if first is not None:
            self._answer_again(parsed, asked, first[0])
        elif parsed.command != SET_SHOP and limits.refused(
            parsed, limits.TOO_MANY_KEYS, len(me.keys), rules.keys_max
        ):
            self.refusal = limits.TOO_MANY_KEYS
        else:
            rule(parsed)
            if not self.waits and self.refusal not in limits.NOT_KEPT:
                # What is kept beside the question: which purchase or refusal answered it.
                answer = (self.refusal or "", self._purchase_id(parsed))
                me.keys = {**me.keys, parsed.key: ((*asked, *answer), self.now)}
                self.changed = True

    def _answer_again(
        self, parsed: ParsedCommand, asked: tuple[str, ...], kept: tuple[str, ...]
    ) -> None:
        *first_asked, refusal, purchase = kept
        if tuple(first_asked) != asked:
            self.refusal = "IDEMPOTENCY_KEY_REUSED"
        elif refusal:
            self.refusal = refusal
        elif parsed.command == "reserve":
            self._open(self.state.purchases[purchase])

    def _purchase_id(self, parsed: ParsedCommand) -> str:
        name = f"purchase/{self.state.merchant}/{parsed.command_id}"
        return str(uuid.uuid5(NAMESPACE, name)) if parsed.command == "reserve" else ""

    def _reserve(self, parsed: ParsedCommand) -> None:
        me, rules, purchase = self.state, self._rules, self._purchase_id(parsed)
        if purchase in me.purchases:
            self._open(me.purchases[purchase])
            return
        if me.uninstalled is not None:
            self.refusal = limits.UNINSTALLED
            return
        terms = sold_terms.sold(parsed, rules.catalogue, self.now)
        if terms is None and parsed.refused_by != limits.TOO_MANY_OPEN:
            self.refusal = limits.INVALID_PACK
        elif limits.refused(parsed, limits.TOO_MANY_OPEN, len(me.pending), rules.open_max):
            self.refusal = limits.TOO_MANY_OPEN
        elif terms is not None:
            sold = (terms, parsed.text, parsed.platform, self.now, self.now + rules.expiry_us)
            self.put(purchase, PurchaseState.opened(*sold))

    def _open(self, bought: PurchaseState) -> None:
        if bought.no_checkout:
            self.refusal = "PLATFORM_ERROR"

    def _attach(self, parsed: ParsedCommand) -> None:
        me, bought = self.state, self.state.purchases[parsed.purchase]
        url = parsed.url if me.forgotten is None else None
        if bought.charge is not None:
            self.refusal = None if bought.charge == parsed.charge else "CHARGE_MISMATCH"
            return
        if parsed.charge in me.charges:
            self.refusal = "CHARGE_MISMATCH"
            return
        self.put(parsed.purchase, bought._replace(charge=parsed.charge, url=url, test=parsed.test))
        self._claim(parsed.purchase, parsed.charge)

    def _claim(self, purchase: str, charge: str) -> None:
        """The charge is the purchase's; what waited for it applies now."""
        me = self.state
        me.charges = {**me.charges, charge: purchase}
        mine = [waiting for waiting in me.parked if waiting.charge == charge]
        me.parked = tuple(waiting for waiting in me.parked if waiting.charge != charge)
        for waiting in mine:
            if self.settle(purchase, waiting) is not None:
                self.given_up.append(waiting)

    def _no_checkout(self, parsed: ParsedCommand) -> None:
        bought = self.state.purchases[parsed.purchase]
        if bought.charge is not None or bought.no_checkout:
            return
        why = parsed.text if self.state.forgotten is None else FORGOTTEN
        pending = bought.status == "pending"
        status = "failed" if pending else bought.status
        self.put(parsed.purchase, bought._replace(status=status, no_checkout=why))
        if pending:
            self.publish("purchase.failed", parsed.purchase, 0, None, parsed.text.lower())

    def _publish_all(self, events: Iterable[EventContent]) -> None:
        for event in events:
            self.publish(*event)
