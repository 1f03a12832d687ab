"""The effects that reports of platforms about a charge must have.

Of money that goes back all reports are kept, and each time it is worked out of them again.
"""

from decimal import ROUND_DOWN, Decimal
from fractions import Fraction

from billing_stream.audit.verify import limits
from billing_stream.audit.verify.model_state import (
    PAID,
    RULES,
    UNPAID,
    EarlyWebhook,
    EventContent,
    PurchaseState,
    Rules,
    State,
)
from billing_stream.audit.verify.verify_inputs import ParsedCommand

# Of refunds with an id, of failed ones, and of disputes.
REPORTS_MAX = 100
_CLOSED = ("won", "reinstated")


class Payments:
    """The part of a step that settles what webhooks say."""

    __slots__ = (
        "_rules",
        "changed",
        "events",
        "given_up",
        "now",
        "refusal",
        "shops",
        "state",
        "superseded",
    )

    _rules: Rules
    state: State
    now: int
    changed: bool
    refusal: str | None
    events: list[EventContent]
    given_up: list[EarlyWebhook]

    def update(self, parsed: ParsedCommand) -> None:
        """A status: by the rules of now a word of the list, and a sum that was paid, or neither."""
        status = parsed.text.lower()
        if parsed.rules == RULES:
            status = status.strip()
            if status not in (*PAID, *UNPAID, "pending"):
                self.refusal = limits.UNKNOWN_STATUS
                return
        else:
            parsed = parsed._replace(amount=None, currency=None)
        if status not in PAID:
            parsed = parsed._replace(amount=None, currency=None)
        if status != "pending":
            self.hear(parsed, "complete" if status in PAID else "fail", status, None)

    def hear(self, parsed: ParsedCommand, kind: str, status: str, known: str | None) -> None:
        """A webhook settles the purchase of its charge, or waits for it."""
        me = self.state
        webhook = EarlyWebhook(
            parsed.charge,
            kind,
            parsed.amount,
            {"refund": "refunded", "refund_failed": "failed"}.get(kind, status),
            parsed.command_id,
            self.now,
            parsed.currency,
            parsed.charge_amount,
            parsed.own,
            parsed.refused_by,
        )
        purchase = known or me.charges.get(parsed.charge)
        if purchase is not None:
            self.refusal = self.settle(purchase, webhook)
        elif any(waiting.says() == webhook.says() for waiting in me.parked):
            return
        elif limits.refused(parsed, limits.TOO_MANY_EARLY, len(me.parked), self._rules.parked_max):
            self.given_up.append(webhook)
        else:
            me.parked = (*me.parked, webhook)
            self.changed = True

    def settle(self, purchase: str, webhook: EarlyWebhook) -> str | None:
        """Paid once, whatever was before; failed only while pending; a refund was paid.

        Returns the code of the refusal of what does not fit what was asked for.
        """
        bought = self.state.purchases[purchase]
        if webhook.kind == "complete":
            return self._take_payment(purchase, bought, webhook)
        if webhook.kind == "fail":
            if bought.status == "pending":
                self.put(purchase, bought._replace(status="failed"))
                self.publish("purchase.failed", purchase, 0, None, webhook.status)
            return None
        if webhook.amount is not None and not Decimal(webhook.amount):
            # Nothing was paid back, which proves no payment.
            return None
        refusal = limits.TOO_MANY_REFUNDS if _is_one_too_many(bought, webhook) else None
        if webhook.charge_amount is None and self._is_foreign(bought, webhook):
            refusal = limits.PAYMENT_MISMATCH
        if refusal is None:
            if webhook.kind != "refund_failed":
                bought = self._pay(purchase, bought)
            self._report(purchase, bought, webhook)
        return refusal

    def _is_foreign(self, bought: PurchaseState, webhook: EarlyWebhook) -> bool:
        """Whether it states another currency than that of the purchase."""
        currency = bought.currency
        if currency is None and webhook.refused_by is not None:
            # Nobody knows what the settings were, but which webhooks were refused.
            return webhook.currency is not None and webhook.refused_by == limits.PAYMENT_MISMATCH
        return webhook.currency not in (None, currency or self._rules.catalogue.currency)

    def _take_payment(
        self, purchase: str, bought: PurchaseState, webhook: EarlyWebhook
    ) -> str | None:
        less = Decimal(0)
        if webhook.amount is not None:
            less = max(less, Decimal(bought.amount) - Decimal(webhook.amount))
        by_log = webhook.refused_by == limits.PAYMENT_MISMATCH
        # Whether discounts were taken, and of an old log the currency, its dead letters say.
        short = by_log if webhook.refused_by is not None else not self._rules.discounts
        if self._is_foreign(bought, webhook) or (less > 0 and short):
            return limits.PAYMENT_MISMATCH
        if less > 0 and bought.status not in ("completed", "refunded"):
            bought = bought._replace(discount=less)
        self._pay(purchase, bought)
        return None

    def _pay(self, purchase: str, bought: PurchaseState) -> PurchaseState:
        me = self.state
        if bought.status in ("completed", "refunded"):
            return bought
        bought = self.put(purchase, bought._replace(status="completed", paid=self.now))
        me.total += bought.credits
        me.last_paid = self.now
        amount = Decimal(bought.amount)
        self.publish("credits.purchased", purchase, bought.credits, amount, bought.platform)
        return bought

    def _report(self, purchase: str, bought: PurchaseState, webhook: EarlyWebhook) -> None:
        """What it changes: credits in proportion to all that went back, rounded down."""
        before = _Returns(bought)
        if not before.is_news(webhook):
            return
        bought = bought._replace(reports=(*bought.reports, webhook))
        after = _Returns(bought)
        back, taken = int(bought.credits * after.refunded), int(bought.credits * after.taken)
        if bought.status in ("completed", "refunded"):
            status = "refunded" if after.refunded == 1 else "completed"
            bought = bought._replace(status=status)
        more = taken - bought.credits_back - bought.disputed
        money = after.money()
        refund = money - bought.back
        self.state.total -= more
        now = bought._replace(back=money, credits_back=back, disputed=taken - back)
        self.put(purchase, now)
        if webhook.kind == "dispute":
            status = after.disputes[webhook.own][0]
            kind = "disputed" if status == "withdrawn" else "dispute_closed"
            self.publish(f"purchase.{kind}", purchase, -more, None, (webhook.own, status))
        elif after.refunded > before.refunded:
            self.publish("purchase.refunded", purchase, more, refund)
        elif after.refunded != before.refunded:
            self.publish("purchase.refund_failed", purchase, -more)

    def put(self, purchase: str, bought: PurchaseState) -> PurchaseState:
        """Add or change a purchase."""
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

    def publish(
        self,
        kind: str,
        purchase: str,
        credits: int = 0,
        amount: Decimal | None = None,
        more: object = "",
    ) -> None:
        """Add an event."""
        self.events.append((kind, purchase, credits, amount, more))
        self.changed = True


def _is_one_too_many(bought: PurchaseState, webhook: EarlyWebhook) -> bool:
    kinds = ["dispute"] if webhook.kind == "dispute" else ["refund", "refund_failed"]
    for kind in kinds:
        known = {report.own for report in bought.reports if report.kind == kind} - {None}
        if webhook.own is not None and webhook.own not in known and len(known) >= REPORTS_MAX:
            return True
    return False


class _Returns:
    """What follows from all reports of a purchase. Shares are parts of its charge."""

    def __init__(self, bought: PurchaseState) -> None:
        self._paid = Fraction(Decimal(bought.amount) - bought.discount)
        self._sum = Fraction(0)
        self._whole: Fraction | None = None
        self._single: dict[str | None, Fraction] = {}
        self._failed: dict[str | None, str | None] = {}
        self.disputes: dict[str | None, tuple[str, Fraction]] = {}
        for report in bought.reports:
            self._take(report)
        failed = [self._single[own] for own in self._failed if own in self._single]
        unknown = [
            self._share(amount, self._whole)
            for own, amount in self._failed.items()
            if own not in self._single
        ]
        every = sum(self._single.values(), Fraction(0))
        unnamed = max(Fraction(0), self._sum - every - sum(unknown, Fraction(0)))
        self.refunded = min(Fraction(1), every - sum(failed, Fraction(0)) + unnamed)
        gone = [share for status, share in self.disputes.values() if status not in _CLOSED]
        self.taken = min(Fraction(1), self.refunded + sum(gone, Fraction(0)))

    def is_news(self, report: EarlyWebhook) -> bool:
        """Whether it says more than was reported."""
        if report.kind == "refund_failed":
            return report.own not in self._failed
        if report.kind == "refund":
            known = self._sum if report.own is None else self._single.get(report.own, Fraction(0))
            new_charge = self._whole is None and report.charge_amount is not None
            return new_charge or self._share_of(report) > known
        return self.disputes.get(report.own) != self._dispute(report)

    def money(self) -> Decimal:
        """What was refunded, in the money of the purchase, down to 6 decimals."""
        exact = self._paid * self.refunded
        money = Decimal(exact.numerator) / Decimal(exact.denominator)
        return money.quantize(Decimal("0.000001"), ROUND_DOWN)

    def _take(self, report: EarlyWebhook) -> None:
        if report.kind == "refund_failed":
            self._failed[report.own] = report.amount
        elif report.kind == "dispute":
            self.disputes[report.own] = self._dispute(report)
        else:
            if self._whole is None and report.charge_amount is not None:
                self._whole = Fraction(report.charge_amount)
            if report.own is None:
                self._sum = max(self._sum, self._share_of(report))
            else:
                known = self._single.get(report.own, Fraction(0))
                self._single[report.own] = max(known, self._share_of(report))

    def _dispute(self, report: EarlyWebhook) -> tuple[str, Fraction]:
        """How it stands with this report: the final status stays, whatever comes later."""
        status, share = self.disputes.get(report.own, ("", Fraction(0)))
        weaker = ("", "withdrawn", "lost").index(status) if status not in _CLOSED else 3
        stronger = ("", "withdrawn", "lost").index(report.status) if _is_open(report) else 3
        return report.status if stronger > weaker else status, max(share, self._share_of(report))

    def _share_of(self, report: EarlyWebhook) -> Fraction:
        whole = None if report.charge_amount is None else Fraction(report.charge_amount)
        return self._share(report.amount, whole)

    def _share(self, amount: str | None, whole: Fraction | None) -> Fraction:
        of = self._paid if whole is None else whole
        if amount is None or Fraction(amount) >= of:
            return Fraction(1)
        return Fraction(amount) / of


def _is_open(report: EarlyWebhook) -> bool:
    return report.status not in _CLOSED
