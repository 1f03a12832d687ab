"""The domain and its rows against an independent model, whatever comes in whatever order.

Commands of all kinds for several merchants, in batches that are applied, thrown away, or
thrown away and done again; restarts from what the changelogs still hold; a clock that goes
both ways. After every command the decision and every row must be what the model says.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from billing_stream.audit.verify.log_records import micros_of
from billing_stream.audit.verify.model_state import EarlyWebhook
from billing_stream.domain.commands import (
    AdjustCredits,
    AdvanceClock,
    AdvanceTime,
    AttachCharge,
    Command,
    CreateMerchant,
    ExtendTrial,
    FailPurchase,
    ForgetMerchant,
    ImportMerchant,
    OldPurchase,
    RefundCharge,
    ReservePurchase,
    SetShop,
    StartTrial,
    UninstallMerchant,
    UpdateCharge,
)
from billing_stream.domain.decide import decide
from billing_stream.domain.model import Adjustment, Merchant, Platform, Purchase
from billing_stream.domain.outcomes import (
    Decision,
    Event,
    PurchaseOpened,
    PurchaseRefunded,
    StoredResponse,
)
from billing_stream.domain.policy import Policy
from billing_stream.domain.reports import ParkedWebhook
from billing_stream.domain.state import State
from billing_stream.tables.rows import PartitionRows, StagedRows
from tests.support.oracle import (
    Oracle,
    Outcome,
    as_written,
    event_content,
    moment,
    reply_row,
    row_faults,
    rules_of,
)
from tests.support.reports import REPORTS, report
from tests.support.world import CHECKOUT, M1, M2, NOBODY, NOW, everything, pending_of

HOUR = timedelta(hours=1)
REFUNDS = [
    "refund",
    "refund 0",
    "refund 0.01",
    "refund 3.00",
    "refund 9.99",
    "refund 20.5",
    "refund 70",
]
LIMITS: dict[str, Any] = {"parked_max": 3, "answers_max": 3}
OPEN_MAX = 4
POLICY = Policy(
    trial_duration=5 * HOUR,
    trial_reminder=HOUR,
    purchase_expiry=2 * HOUR,
    answer_retention=3 * HOUR,
    former_shops_max=1,
    test_clock=True,
    open_purchases_max=OPEN_MAX,
    **LIMITS,
)
M3 = "33333333-3333-4333-8333-333333333333"
MERCHANTS = (M1, M2, M3)
CHARGES = ("c1", "c2", "c3", "c4")
OLD_PURCHASES = tuple(f"aaaaaaaa-0000-4000-8000-0000000000{n}0" for n in range(3))
KEYS = (None, "k1", "k2", "k3", "k4")
STATUSES = ("ACTIVE", "accepted ", "PENDING", "declined", "FROZEN", "Succeeded")
TOLD = ("wait", "wait", "ask again", "refund", "no checkout", *STATUSES, *REPORTS)

merchants = st.sampled_from((M1, M1, M1, M2, M3))
# When an installation was made or ended, in minutes from now.
ago = st.sampled_from((None, None, -90, -5, 0, 5))
named_shops = st.sampled_from((None, None, "shopify:a.example", "shopify:b.example"))
keys = st.sampled_from(KEYS)


def _refunded(events: Sequence[Event], purchase_id: str) -> Decimal:
    found = [e.data for e in events if isinstance(e.data, PurchaseRefunded)]
    return sum((Decimal(d.amount) for d in found if d.purchase_id == purchase_id), Decimal(0))


def early_of(parked: ParkedWebhook) -> EarlyWebhook:
    """A parked webhook as the model has it."""
    at = micros_of(parked.at)
    kind, status, amount = str(parked.kind), parked.status, parked.amount
    more = parked.currency, parked.charge_amount, parked.refund_id or parked.dispute_id
    return EarlyWebhook(parked.charge_id, kind, amount, status, parked.source, at, *more)


class Machine(RuleBasedStateMachine):
    """One partition: committed rows, a transaction in the making, and the changelogs."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Oracle(rules_of(POLICY))
        self.rows = PartitionRows()
        self.staged = StagedRows(self.rows)
        self.batch: list[tuple[Command, datetime, Decision]] = []
        self.events: list[Event] = []
        self.ids: dict[tuple[str, str], str] = {}
        # What survives a crash: the model's and the events' state, and the changelogs.
        self.saved: tuple[Oracle, int] = (self.model.copy(), 0)
        self.changelogs: dict[str, list[tuple[Any, bytes | None]]] = {table: [] for table in "mpca"}
        self.now = NOW
        self.count = 0

    def decide(self, command: Command, at: datetime) -> Decision:
        """The decision on the stage, not yet added to it."""
        return decide(State.of(POLICY, self.staged, command.merchant_id), command, at)

    def do(self, command: Command) -> None:
        """Decide on the stage and in the model; both must say the same."""
        committed = everything(self.rows) if self.count % 8 == 0 else None
        decision = self.decide(command, self.now)
        assert self.decide(command, self.now) == decision, "a decision can be repeated"
        self.staged.add(decision)
        self.batch.append((command, self.now, decision))
        expected = self.model.do(command, self.now)
        self.compare_decision(decision, expected, command.merchant_id)
        self.compare_rows(command.merchant_id)
        if committed is not None:
            assert everything(self.rows) == committed, "memory does not lead"

    def compare_decision(self, decision: Decision, expected: Outcome, merchant: str) -> None:
        """The decision is what the model says, to the last word."""
        assert reply_row(decision.reply) == expected.reply
        assert [event_content(event) for event in decision.events] == expected.events
        last = expected.sequence
        numbers = [*range(last - len(decision.events) + 1, last + 1)]
        assert [event.sequence for event in decision.events] == numbers
        assert all(event.at == expected.at for event in decision.events)
        assert all(event.data.merchant_id == merchant for event in decision.events)
        assert list(decision.shops) == expected.shops
        parked = [early_of(unclaimed.parked) for unclaimed in decision.unclaimed]
        assert parked == expected.unclaimed
        assert all(u.merchant_id == merchant for u in decision.unclaimed)
        assert (decision.merchant is not None) == expected.changed
        assert all(p.merchant_id == merchant for p in decision.purchases)
        changed = decision.merchant
        assert all(changed and p.version == changed.version for p in decision.purchases)
        for number, event in enumerate(decision.events, 1):
            data = event.data
            subject = getattr(data, "purchase_id", getattr(data, "adjustment_id", merchant))
            about: tuple[Any, ...] = (event.data.kind, subject)
            if event.data.kind in ("trial.ending", "trial.expired", "trial.extended"):
                # Each end has its own, and each extension.
                about += (data,)
            if event.data.kind in ("merchant.forgotten", "merchant.uninstalled"):
                # It may happen again: how many events there were before tells them apart.
                about += (decision.events[0].sequence,)
            bought = self.model.of(merchant).purchases.get(subject)
            if bought is not None and any(
                report.own or report.charge_amount for report in bought.reports
            ):
                # What was refunded may be less again: no two have the same id.
                about += (event.event_id,)
            elif event.data.kind == "purchase.refunded":
                # One decision can take several parked refunds: the model knows the last total.
                total = bought.back if bought is not None else Decimal(0)
                about += (total - _refunded(decision.events[number:], subject),)
            # The same event has the same id for ever, also when it was told and undone.
            assert self.ids.setdefault(about, event.event_id) == event.event_id
            self.events.append(event)

    def compare_rows(self, merchant: str) -> None:
        """The merchant's rows, as staged, are what the model says."""
        me, staged = self.model.of(merchant), self.staged
        row, answers = staged.merchant(merchant), [*staged.answers(merchant)]
        purchases = {p.id: as_written(p) for p in staged.purchases_of(merchant)}
        made = ((name, staged.adjustment(name)) for name in me.adjustments)
        adjustments = {name: as_written(found) for name, found in made if found is not None}
        keys = [answer.key for answer in answers]
        told = as_written(row) if row else None
        assert not row_faults(me, told, purchases, adjustments, keys)
        assert [early_of(parked) for parked in (row.parked if row else ())] == [*me.parked]
        assert (row.balance if row else 0) == me.total + me.adjusted
        # Of a repeated key the oldest goes first.
        assert keys == [*me.keys]
        assert staged.answer_count(merchant) == len(me.keys)

    def compare_views(self, rows: PartitionRows) -> None:
        """All that is read of committed rows is what the model says."""
        for merchant in MERCHANTS:
            me = self.model.of(merchant)
            newest = sorted(me.purchases, key=lambda p: (me.purchases[p].created, p), reverse=True)
            assert [p.id for p in rows.purchases_of(merchant)] == newest
            pending = [(moment(expires), purchase) for expires, purchase in me.pending]
            assert pending_of(rows, merchant) == pending
            assert rows.next_due(merchant, 2 * HOUR, HOUR) == self.model.next_due(merchant)
            for charge in {*CHARGES, *me.charges}:
                found = rows.purchase_of_charge(merchant, charge)
                assert (found.id if found else None) == me.charges.get(charge)
            stored = [(a.key, a.at) for a in rows.answers(merchant)]
            assert stored == [(key, moment(at)) for key, (_, at) in me.keys.items()]
            for key in KEYS:
                if key is not None:
                    assert (rows.answer(merchant, key) is not None) == (key in me.keys)

    def purchase_of(self, merchant: str, number: int) -> str:
        """One of the merchant's latest purchases, somebody else's, or nobody's."""
        own = [*reversed(self.model.of(merchant).purchases)][:3]
        others = [p for other in MERCHANTS for p in self.model.of(other).purchases][:1]
        found: list[str] = [*own, *others, NOBODY]
        return found[number % len(found)]

    def charge_of(self, merchant: str, number: int) -> str:
        """A charge of one of the merchant's latest purchases, or one of a few others."""
        purchases = [*reversed(self.model.of(merchant).purchases.values())]
        found = [p.charge for p in purchases if p.charge is not None][:3]
        named: list[str] = [*found, *CHARGES]
        return named[number % len(named)]

    @initialize(created=st.sampled_from([(M1, M2), (M1, M2), (M1,)]))
    def begin(self, created: tuple[str, ...]) -> None:
        for merchant in created:
            self.do(CreateMerchant(merchant, "shopify", "a.example"))

    @rule(
        merchant=merchants,
        domain=st.sampled_from(["a.example", " https://A.Example/", "b.example", "b@b.example"]),
        platform=st.sampled_from(["shopify", "Stripe", "Stripe", "Shopify Plus"]),
        shop_id=st.sampled_from([None, None, "1", "2"]),
        installed=st.sampled_from([None, None, 0, 0, -1, -60, 3000]),
    )
    def create(
        self, merchant: str, domain: str, platform: str, shop_id: str | None, installed: int | None
    ) -> None:
        self.count += 1
        at = None if installed is None else self.now + timedelta(minutes=installed)
        self.do(CreateMerchant(merchant, platform, domain, f"t[0]@{self.count}", shop_id, at))

    @rule(
        merchant=merchants,
        domain=st.sampled_from(["a.example", " https://A.Example/", "b.example", "b@b.example"]),
        key=st.sampled_from(KEYS[1:3]),
    )
    def set_shop(self, merchant: str, domain: str, key: str) -> None:
        self.count += 1
        self.do(SetShop(merchant, "Shopify", domain, "ticket", key, f"s[0]@{self.count}"))

    @rule(merchant=merchants, key=keys)
    def start_trial(self, merchant: str, key: str | None) -> None:
        self.count += 1
        self.do(StartTrial(merchant, key, f"h[0]@{self.count}"))

    @rule(
        merchant=merchants,
        key=st.sampled_from(KEYS[1:3]),
        hours=st.sampled_from([-1, 1, 3, 9, 10**6]),
        by_days=st.booleans(),
        reason=st.sampled_from(["kind", "kind", "slow"]),
    )
    def extend_trial(self, merchant: str, key: str, hours: int, by_days: bool, reason: str) -> None:
        self.count += 1
        days, ends_at = (1, None) if by_days else (None, self.now + hours * HOUR)
        command_id = f"e[0]@{self.count}"
        self.do(ExtendTrial(merchant, reason, key, ends_at, days, command_id=command_id))

    @rule(
        merchant=merchants,
        pack=st.sampled_from([*POLICY.packs, "small", "huge"]),
        platform=st.sampled_from([Platform.SHOPIFY, Platform.SHOPIFY, Platform.STRIPE]),
        url=st.sampled_from(["/", "/", "/x"]),
        key=keys,
        again=st.booleans(),
    )
    def reserve(
        self, merchant: str, pack: str, platform: Platform, url: str, key: str | None, again: bool
    ) -> None:
        self.count += 1
        # Now and then the same record comes again, under the id of the one before.
        number = self.count - 1 if again and self.count % 4 == 0 else self.count
        self.do(ReservePurchase(merchant, pack, platform, url, key, f"h[0]@{number}"))

    @rule(
        merchant=merchants,
        pack=st.sampled_from([*POLICY.packs]),
        key=keys,
        early=st.sampled_from([None, None, None, "refund", *STATUSES, *REPORTS]),
        told=st.lists(st.sampled_from(TOLD), max_size=4),
    )
    def whole_purchase(
        self, merchant: str, pack: str, key: str | None, early: str | None, told: list[str]
    ) -> None:
        """A purchase with a charge of its own, and what is told of it, early and late."""
        self.count += 1
        charge = f"own{self.count}"
        if early is not None:
            self.tell(merchant, charge, early)
        self.reserve(merchant, pack, Platform.CUSTOM, "/", key, False)
        reply = self.batch[-1][2].reply
        purchase_id = reply.purchase_id if isinstance(reply, PurchaseOpened) else NOBODY
        self.do(AttachCharge(merchant, purchase_id, charge, CHECKOUT))
        for what in told:
            if what == "wait":
                self.now += 2 * HOUR
            elif what == "ask again":
                self.reserve(merchant, pack, Platform.CUSTOM, "/", key, False)
            elif what == "no checkout":
                self.do(FailPurchase(merchant, purchase_id, what))
            else:
                self.tell(merchant, charge, what)

    def tell(self, merchant: str, charge: str, what: str) -> None:
        """A webhook: a status, a refund, perhaps of a part of the price, or another report."""
        self.count += 1
        if what in REPORTS:
            self.do(report(merchant, charge, what, f"p[0]@{self.count}"))
        elif what.startswith("refund"):
            amount = what.removeprefix("refund").strip() or None
            self.do(RefundCharge(merchant, charge, f"r[0]@{self.count}", amount=amount))
        else:
            self.do(UpdateCharge(merchant, charge, what, f"w[0]@{self.count}"))

    @rule(merchant=merchants, charge=st.integers(0, 6), number=st.integers(0, 4))
    def attach(self, merchant: str, charge: int, number: int) -> None:
        self.count += 1
        purchase = self.purchase_of(merchant, number)
        named = self.charge_of(merchant, charge)
        self.do(AttachCharge(merchant, purchase, named, f"{CHECKOUT}{self.count}"))

    @rule(merchant=merchants, number=st.integers(0, 4))
    def fail(self, merchant: str, number: int) -> None:
        self.do(FailPurchase(merchant, self.purchase_of(merchant, number), "no checkout"))

    @rule(
        merchant=merchants,
        charge=st.integers(0, 6),
        what=st.sampled_from([*STATUSES, *STATUSES, *REFUNDS, *REPORTS]),
    )
    def webhook(self, merchant: str, charge: int, what: str) -> None:
        self.tell(merchant, self.charge_of(merchant, charge), what)

    @rule(merchant=merchants, number=st.integers(0, 4), what=st.sampled_from(REFUNDS))
    def refund_by_purchase(self, merchant: str, number: int, what: str) -> None:
        self.count += 1
        amount = what.removeprefix("refund").strip() or None
        purchase = self.purchase_of(merchant, number)
        self.do(RefundCharge(merchant, "pi_1", f"r[0]@{self.count}", purchase, amount))

    @rule(
        merchant=merchants,
        credits=st.sampled_from([1, 250, -1, -60, -100, -1_000_000]),
        key=st.sampled_from(KEYS[1:]),
        reason=st.sampled_from(["a gift", "a gift", "a mistake"]),
    )
    def adjust(self, merchant: str, credits: int, key: str, reason: str) -> None:
        self.count += 1
        note = None if credits > 0 else reason
        self.do(AdjustCredits(merchant, credits, reason, key, f"h[0]@{self.count}", note))

    @rule(merchant=merchants, often=st.integers(0, 4), shop=named_shops, at=ago)
    def forget(self, merchant: str, often: int, shop: str | None, at: int | None) -> None:
        self.count += 1
        if often == 0:
            when = None if at is None else self.now + timedelta(minutes=at)
            self.do(ForgetMerchant(merchant, f"h[0]@{self.count}", shop, when))

    @rule(merchant=merchants, often=st.integers(0, 2), shop=named_shops, at=ago)
    def uninstall(self, merchant: str, often: int, shop: str | None, at: int | None) -> None:
        self.count += 1
        if often == 0:
            when = None if at is None else self.now + timedelta(minutes=at)
            self.do(UninstallMerchant(merchant, f"h[0]@{self.count}", shop, when))

    @rule(merchant=merchants, minutes=st.sampled_from([-5, 0, 30, 120, 300, 11 * 525_600]))
    def move_clock(self, merchant: str, minutes: int) -> None:
        self.count += 1
        to = self.now + timedelta(minutes=minutes)
        self.do(AdvanceClock(merchant, to, f"h[0]@{self.count}"))

    @rule(
        merchant=merchants,
        purchases=st.lists(
            st.tuples(
                st.sampled_from([*OLD_PURCHASES, *OLD_PURCHASES, OLD_PURCHASES[0].upper()]),
                st.sampled_from(["pending", "completed", "failed", "expired"]),
                st.integers(0, 6),
                st.sampled_from([-60, 30, 120]),
            ),
            max_size=4,
        ),
        trial=st.sampled_from([None, None, "undated", -60, 90]),
        domain=st.sampled_from([None, "a.example.", "Old.example:443", "127.0.0.1"]),
        other=st.integers(0, 9),
    )
    def import_merchant(
        self,
        merchant: str,
        purchases: list[tuple[str, Any, int, int]],
        trial: str | int | None,
        domain: str | None,
        other: int,
    ) -> None:
        """Purchases of the old service: new ones, known ones, now and then another merchant's."""
        self.count += 1
        owner = MERCHANTS[other] if other < len(MERCHANTS) else merchant
        brought = tuple(
            OldPurchase(
                id=self.old_id(owner, name),
                credits=70,
                amount="7.77",
                status=status,
                platform=Platform.STRIPE,
                created_at=NOW - HOUR,
                expires_at=self.now + timedelta(minutes=minutes),
                platform_charge_id=self.charge_of(merchant, charge) if charge else None,
                completed_at=NOW - HOUR / 2 if charge % 2 else None,
            )
            for name, status, charge, minutes in purchases
        )
        ends = self.now + timedelta(minutes=trial) if isinstance(trial, int) else None
        said = ImportMerchant(
            merchant_id=merchant,
            created_at=NOW - timedelta(days=self.count % 3),
            trial_available=trial is None,
            trial_started_at=ends and ends - 5 * HOUR,
            trial_ends_at=ends,
            last_purchase_at=NOW - HOUR if self.count % 2 else None,
            platform="Shopify" if domain else None,
            domain=domain,
            purchases=brought,
            command_id=f"h[0]@{self.count}",
        )
        self.do(said)
        if self.count % 3 == 0:
            self.do(said)

    @staticmethod
    def old_id(merchant: str, name: str) -> str:
        return f"{name[:-1]}{merchant[0]}"

    @rule(merchant=merchants)
    def pass_time(self, merchant: str) -> None:
        self.do(AdvanceTime(merchant))

    @rule(minutes=st.sampled_from([1, 30, 59, 60, 61, 119, 120, 121, 180, 300, -1, -30, -600]))
    def clock(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    @rule(merchant=merchants)
    def clock_to_what_is_due(self, merchant: str) -> None:
        self.now = self.model.next_due(merchant) or self.now

    @rule(merchant=merchants, early=st.booleans())
    def use_the_oldest_key_when_it_is_free_again(self, merchant: str, early: bool) -> None:
        for key, (_, at) in list(self.model.of(merchant).keys.items())[:1]:
            self.now = moment(at) + 3 * HOUR - timedelta(microseconds=early)
            self.start_trial(merchant, key)

    def write(self) -> None:
        """Commit what is staged: to the changelogs first, then to memory."""
        staged = self.staged
        for merchant_id, merchant in staged.merchants.items():
            self.changelogs["m"].append((merchant_id, msgspec.json.encode(merchant)))
        for purchase_id, purchase in staged.purchases.items():
            self.changelogs["p"].append((purchase_id, msgspec.json.encode(purchase)))
        for adjustment_id, adjustment in staged.adjustments.items():
            self.changelogs["c"].append((adjustment_id, msgspec.json.encode(adjustment)))
        for merchant_id, answers in staged.answers_changed.items():
            for key, answer in answers.items():
                value = None if answer is None else msgspec.json.encode(answer)
                self.changelogs["a"].append(((merchant_id, key), value))
        staged.apply()
        self.staged, self.batch = StagedRows(self.rows), []

    @rule()
    def commit(self) -> None:
        self.write()
        self.saved = (self.model.copy(), len(self.events))
        self.compare_views(self.rows)

    @precondition(lambda self: self.batch)
    @rule(committed=st.integers(0, 4))
    def crash_and_do_it_again(self, committed: int) -> None:
        """The same records come again, in other batches: every decision is the same."""
        batch, self.batch, self.staged = self.batch, [], StagedRows(self.rows)
        for number, (command, at, before) in enumerate(batch):
            if number == committed:
                # No `commit`: the model is ahead, and the rest of the batch follows.
                self.write()
            decision = self.decide(command, at)
            assert decision == before
            self.staged.add(decision)
        self.write()
        self.saved = (self.model.copy(), len(self.events))
        self.compare_views(self.rows)

    @precondition(lambda self: self.batch)
    @rule()
    def crash_and_never_do_it_again(self) -> None:
        """Requests that were never answered: it is as if they had not come."""
        self.batch, self.staged = [], StagedRows(self.rows)
        model, events = self.saved
        self.model, self.events = model.copy(), self.events[:events]
        # An event that never happened may be another one, with its id, by the time it does.
        there = {event.event_id for event in self.events}
        self.ids = {about: name for about, name in self.ids.items() if name in there}
        for merchant in MERCHANTS:
            self.compare_rows(merchant)
        self.compare_views(self.rows)

    @rule(random=st.randoms(use_true_random=False))
    def restart(self, random: Random) -> None:
        """Read the changelogs, compacted or not, with the tables in any order."""
        self.commit()
        left = {table: compacted(log, random) for table, log in self.changelogs.items()}
        restored = PartitionRows()
        while any(left.values()):
            table = random.choice([table for table, log in left.items() if log])
            key, value = left[table].pop(0)
            if table == "m" and value is not None:
                restored.put_merchant(msgspec.json.decode(value, type=Merchant))
            elif table == "p" and value is not None:
                restored.put_purchase(msgspec.json.decode(value, type=Purchase))
            elif table == "c" and value is not None:
                restored.put_adjustment(msgspec.json.decode(value, type=Adjustment))
            elif value is not None:
                restored.put_answer(msgspec.json.decode(value, type=StoredResponse))
            else:
                restored.drop_answer(*key)
        self.compare_views(restored)
        assert restored.adjustments == self.rows.adjustments
        merchants, purchases, _, shops = everything(restored)[:4]
        assert (merchants, purchases, shops) == (self.rows.merchants, self.rows.purchases, {})
        for merchant in MERCHANTS:
            assert list(restored.answers(merchant)) == list(self.rows.answers(merchant))
        self.rows, self.staged = restored, StagedRows(restored)
        for merchant in MERCHANTS:
            self.compare_rows(merchant)

    @rule(random=st.randoms(use_true_random=False))
    def read_rows_in_any_order(self, random: Random) -> None:
        """The indexes do not depend on the order in which the rows come."""
        self.commit()
        rows: list[Merchant | Purchase] = [
            *self.rows.merchants.values(),
            *self.rows.purchases.values(),
        ]
        random.shuffle(rows)
        restored = PartitionRows()
        for adjustment in self.rows.adjustments.values():
            restored.put_adjustment(adjustment)
        for answers in self.rows.stored_responses.values():
            for answer in answers.values():
                restored.put_answer(answer)
        for row in rows:
            if isinstance(row, Merchant):
                restored.put_merchant(row)
            else:
                restored.put_purchase(row)
        self.compare_views(restored)

    @invariant()
    def the_total_is_the_sum_of_the_completed_purchases(self) -> None:
        paid: Counter[str] = Counter()
        for row in {**self.rows.purchases, **self.staged.purchases}.values():
            if row.status in ("completed", "refunded"):
                taken = row.refunded_credits + row.disputed_credits
                paid[row.merchant_id] += row.credits - taken
        for merchant in {**self.rows.merchants, **self.staged.merchants}.values():
            assert merchant.total_credits_purchased == paid[merchant.merchant_id]

    @invariant()
    def every_event_is_told_once_and_numbered_without_a_gap(self) -> None:
        told = [event.event_id for event in self.events]
        assert len(set(told)) == len(told)
        assert len(set(self.ids.values())) == len(self.ids)
        ends = [e.data for e in self.events if e.data.kind in ("trial.expired", "trial.ending")]
        assert len(set(ends)) == len(ends)
        numbers: Counter[str] = Counter()
        for event in self.events:
            numbers[event.data.merchant_id] += 1
            assert event.sequence == numbers[event.data.merchant_id]


def compacted(
    log: list[tuple[Any, bytes | None]], random: Random
) -> list[tuple[Any, bytes | None]]:
    """The log after some compaction: the last of each key stays, older ones may be gone.

    A deletion that is the last of its key may be gone too, but only with all before it.
    """
    last = {key: number for number, (key, _) in enumerate(log)}
    gone = {key for key, at in last.items() if log[at][1] is None and random.random() < 0.5}
    kept = random.random()
    return [
        (key, value)
        for number, (key, value) in enumerate(log)
        if key not in gone and (number == last[key] or random.random() < kept)
    ]


@pytest.mark.parametrize("examples", [150, pytest.param(450, marks=pytest.mark.full)])
def test_it_decides_as_the_model_does(examples: int) -> None:
    """Whatever is asked, in whatever order."""
    found = settings(
        max_examples=examples,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    run_state_machine_as_test(Machine, settings=found)
