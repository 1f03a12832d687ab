"""The domain against an independent model, under whatever Hypothesis thinks of.

The model is plain dicts and was written from the rules alone. It shares with the domain
the commands, which are its input, and nothing else.
"""

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

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
from billing_stream.domain.decide import decide
from billing_stream.domain.model import Platform, Policy
from billing_stream.domain.outcomes import Decision, PurchaseOpened, Rejected
from billing_stream.domain.state import State
from tables.rows import PartitionRows, StagedRows
from tests.support.world import M1, M2, NOW

HOUR = timedelta(hours=1)
POLICY = Policy(trial_duration=5 * HOUR, purchase_expiry=2 * HOUR, answer_retention=24 * HOUR)
PACKS = {"small": (100, "9.99"), "medium": (500, "39.99"), "large": (1000, "69.99")}
CHARGES = ["c1", "c2", "c3", "c4"]
KEYS = st.sampled_from([None, "k1", "k2"])
MERCHANTS = st.sampled_from([M1, M2])


class Model:
    """What must be, as simply as it can be said."""

    def __init__(self) -> None:
        self.clock: dict[str, datetime] = {}
        self.created: set[str] = set()
        self.trial_end: dict[str, datetime] = {}
        self.trial_told: set[str] = set()
        self.purchases: dict[str, dict[str, Any]] = {}
        self.parked: dict[str, list[tuple[str, str, datetime]]] = {}
        self.keys: dict[tuple[str, str], tuple[Any, Any, datetime]] = {}

    def do(self, command: Command, now: datetime, opened: str | None) -> tuple[Any, list[Any]]:
        """The reply (a code, or "ok") and the events, as (kind, subject)."""
        merchant = command.merchant_id
        now = max(now, self.clock.get(merchant, now))
        events = self.time(merchant, now)
        reply = self.act(command, merchant, now, events, opened)
        # A merchant's clock moves with its changes only; so does this one, generously: that
        # it stands still otherwise shows in nothing but the time of the next change.
        return reply, events

    def time(self, merchant: str, now: datetime) -> list[Any]:
        """Let time pass."""
        events = []
        ended = merchant in self.trial_end and self.trial_end[merchant] <= now
        if ended and merchant not in self.trial_told:
            self.trial_told.add(merchant)
            events.append(("trial.expired", merchant))
        due = [
            (p["expires"], purchase)
            for purchase, p in self.purchases.items()
            if p["merchant"] == merchant and p["status"] == "pending" and p["expires"] <= now
        ]
        for _, purchase in sorted(due):
            self.purchases[purchase]["status"] = "expired"
            events.append(("purchase.expired", purchase))
        self.parked[merchant] = [p for p in self.parked.get(merchant, []) if p[2] > now - 2 * HOUR]
        return events

    def act(
        self, command: Command, merchant: str, now: datetime, events: list[Any], opened: str | None
    ) -> Any:
        """Carry the command out."""
        if isinstance(command, CreateMerchant):
            self.created.add(merchant)
            return "ok"
        if isinstance(command, PassTime):
            return "ok"
        if isinstance(command, UpdateCharge | RefundCharge):
            self.told(command, merchant, now, events)
            return "ok"
        if merchant not in self.created:
            return "MERCHANT_NOT_FOUND"
        if isinstance(command, StartTrial | ReservePurchase):
            return self.keyed(command, merchant, now, events, opened)
        purchase = self.purchases.get(command.purchase_id)
        if purchase is None or purchase["merchant"] != merchant:
            return "PURCHASE_NOT_FOUND"
        if isinstance(command, FailPurchase):
            self.settle(command.purchase_id, "fail", events)
            return "ok"
        if isinstance(command, AttachCharge):
            return self.attach(command, purchase, merchant, events)
        return None

    def keyed(
        self, command: Any, merchant: str, now: datetime, events: list[Any], opened: str | None
    ) -> Any:
        """Trials and purchases, which take a key."""
        key = command.idempotency_key
        asked = (
            ("trial",)
            if isinstance(command, StartTrial)
            else ("purchase", command.pack, command.platform, command.return_url)
        )
        if key is not None and (merchant, key) in self.keys:
            before, answer, at = self.keys[merchant, key]
            if at > now - 24 * HOUR:
                return answer if before == asked else "IDEMPOTENCY_KEY_REUSED"
        if isinstance(command, StartTrial):
            if merchant in self.trial_end:
                answer = "TRIAL_ALREADY_USED"
            else:
                self.trial_end[merchant] = now + 5 * HOUR
                events.append(("trial.started", merchant))
                answer = "ok"
        else:
            if command.pack not in PACKS:
                return "INVALID_PACK"
            assert opened is not None
            self.purchases[opened] = {
                "merchant": merchant,
                "credits": PACKS[command.pack][0],
                "status": "pending",
                "charge": None,
                "expires": now + 2 * HOUR,
            }
            answer = "ok"
        if key is not None:
            self.keys[merchant, key] = (asked, answer, now)
        return answer

    def attach(
        self, command: AttachCharge, purchase: dict[str, Any], merchant: str, events: list[Any]
    ) -> str:
        """Tie a charge to a purchase."""
        if purchase["charge"] is not None:
            if purchase["charge"] != command.charge_id:
                return "CHARGE_MISMATCH"
        elif self.by_charge(merchant, command.charge_id) is not None:
            return "CHARGE_MISMATCH"
        purchase["charge"] = command.charge_id
        waiting = self.parked[merchant]
        self.parked[merchant] = [p for p in waiting if p[0] != command.charge_id]
        for charge, what, _ in waiting:
            if charge == command.charge_id:
                self.settle(command.purchase_id, what, events)
        return "ok"

    def told(
        self, command: UpdateCharge | RefundCharge, merchant: str, now: datetime, events: list[Any]
    ) -> None:
        """A webhook."""
        if isinstance(command, RefundCharge):
            what = "refund"
        elif command.status.lower() == "pending":
            return
        else:
            what = "complete" if command.status.lower() in ("accepted", "active") else "fail"
        purchase = self.by_charge(merchant, command.charge_id)
        if purchase is not None:
            self.settle(purchase, what, events)
        elif (command.charge_id, what) not in [p[:2] for p in self.parked[merchant]]:
            self.parked[merchant].append((command.charge_id, what, now))

    def settle(self, purchase: str, what: str, events: list[Any]) -> None:
        """Complete, fail or refund."""
        row = self.purchases[purchase]
        if what == "fail":
            if row["status"] == "pending":
                row["status"] = "failed"
                events.append(("purchase.failed", purchase))
            return
        if row["status"] in ("pending", "failed", "expired"):
            row["status"] = "completed"
            events.append(("credits.purchased", purchase))
        if what == "refund" and row["status"] == "completed":
            row["status"] = "refunded"
            events.append(("purchase.refunded", purchase))

    def by_charge(self, merchant: str, charge: str) -> str | None:
        """The merchant's purchase with this charge."""
        for purchase, row in self.purchases.items():
            if row["merchant"] == merchant and row["charge"] == charge:
                return purchase
        return None

    def total(self, merchant: str) -> int:
        """Credits granted and not taken back."""
        return sum(
            row["credits"]
            for row in self.purchases.values()
            if row["merchant"] == merchant and row["status"] == "completed"
        )


class Machine(RuleBasedStateMachine):
    """Commands in batches, some thrown away half way, restarts, and time both ways."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.rows = PartitionRows()
        self.staged = StagedRows(self.rows)
        self.pending: list[tuple[Command, datetime, Decision]] = []
        self.now = NOW
        self.count = 0
        self.events: Counter[str] = Counter()
        self.sequences: dict[str, int] = {}

    def run(self, command: Command) -> None:
        """Decide on the stage and in the model; both must say the same."""
        state = State.of(POLICY, self.staged, command.merchant_id)
        decision = decide(state, command, self.now)
        assert decide(state, command, self.now) == decision, "a decision is repeatable"
        self.staged.add(decision)
        self.pending.append((command, self.now, decision))
        reply = decision.reply
        opened = reply.purchase_id if isinstance(reply, PurchaseOpened) else None
        wanted, events = self.model.do(command, self.now, opened)
        assert (reply.code if isinstance(reply, Rejected) else "ok") == wanted
        told = [
            (e.data.kind, getattr(e.data, "purchase_id", e.data.merchant_id))
            for e in decision.events
        ]
        assert told == events
        for event in decision.events:
            self.events[event.event_id] += 1
            merchant = event.data.merchant_id
            self.sequences[merchant] = self.sequences.get(merchant, 0) + 1
            assert event.sequence == self.sequences[merchant]
        if decision.merchant is not None:
            updated = decision.merchant.updated_at
            assert updated is not None
            self.model.clock[command.merchant_id] = updated

    @initialize(merchant=MERCHANTS)
    def begin(self, merchant: str) -> None:
        self.run(CreateMerchant(merchant, "shopify", "a.example"))

    @rule(merchant=MERCHANTS, domain=st.sampled_from(["a.example", "b.example"]))
    def create(self, merchant: str, domain: str) -> None:
        self.run(CreateMerchant(merchant, "shopify", domain))

    @rule(merchant=MERCHANTS, key=KEYS)
    def start_trial(self, merchant: str, key: str | None) -> None:
        self.run(StartTrial(merchant, key))

    @rule(merchant=MERCHANTS, pack=st.sampled_from([*PACKS, "huge"]), key=KEYS)
    def reserve(self, merchant: str, pack: str, key: str | None) -> None:
        self.count += 1
        self.run(ReservePurchase(merchant, pack, Platform.SHOPIFY, "/", key, f"c[0]@{self.count}"))

    @rule(merchant=MERCHANTS, charge=st.sampled_from(CHARGES), data=st.data())
    def attach(self, merchant: str, charge: str, data: st.DataObject) -> None:
        purchase = data.draw(st.sampled_from([*sorted(self.model.purchases), "none"]))
        self.run(AttachCharge(merchant, purchase, charge, "https://pay.example"))

    @rule(merchant=MERCHANTS, data=st.data())
    def fail(self, merchant: str, data: st.DataObject) -> None:
        purchase = data.draw(st.sampled_from([*sorted(self.model.purchases), "none"]))
        self.run(FailPurchase(merchant, purchase, "no checkout"))

    @rule(
        merchant=MERCHANTS,
        charge=st.sampled_from(CHARGES),
        status=st.sampled_from(["ACTIVE", "accepted", "PENDING", "declined", "frozen"]),
    )
    def webhook(self, merchant: str, charge: str, status: str) -> None:
        self.run(UpdateCharge(merchant, charge, status, "w[0]@0"))

    @rule(merchant=MERCHANTS, charge=st.sampled_from(CHARGES))
    def refund(self, merchant: str, charge: str) -> None:
        self.run(RefundCharge(merchant, charge, "r[0]@0"))

    @rule(merchant=MERCHANTS)
    def pass_time(self, merchant: str) -> None:
        self.run(PassTime(merchant))

    @rule(minutes=st.sampled_from([-600, -30, 1, 30, 60, 119, 120, 121, 300, 1440]))
    def clock(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    @rule()
    def commit(self) -> None:
        self.staged.apply()
        self.staged, self.pending = StagedRows(self.rows), []

    @rule()
    def abort_and_repeat(self) -> None:
        """A crash before the commit: the same commands come again, and decide the same."""
        self.staged = StagedRows(self.rows)
        for command, at, before in self.pending:
            decision = decide(State.of(POLICY, self.staged, command.merchant_id), command, at)
            assert decision == before
            self.staged.add(decision)

    @rule(seed=st.randoms(use_true_random=False))
    def restart(self, seed: Any) -> None:
        """A restore from the rows alone, in whatever order compaction left them."""
        self.commit()
        puts: list[Any] = [(PartitionRows.put_merchant, m) for m in self.rows.merchants.values()]
        puts += [(PartitionRows.put_purchase, p) for p in self.rows.purchases.values()]
        seed.shuffle(puts)
        restored = PartitionRows()
        for put, row in puts:
            put(restored, row)
        for answers in self.rows.answers_by_merchant.values():
            for answer in answers.values():
                restored.put_answer(answer)
        for merchant in (M1, M2):
            assert restored.purchases_of(merchant) == self.rows.purchases_of(merchant)
            assert restored.pending(merchant) == self.rows.pending(merchant)
            assert restored.next_due(merchant, 2 * HOUR) == self.rows.next_due(merchant, 2 * HOUR)
            for charge in CHARGES:
                found = restored.purchase_of_charge(merchant, charge)
                assert found == self.rows.purchase_of_charge(merchant, charge)
        self.rows = restored
        self.staged = StagedRows(self.rows)

    @invariant()
    def rows_are_what_the_model_says(self) -> None:
        for purchase, row in self.model.purchases.items():
            found = self.staged.purchase(purchase)
            assert found is not None
            assert (found.status, found.platform_charge_id) == (row["status"], row["charge"])
            assert found.merchant_id == row["merchant"]
        for merchant in (M1, M2):
            found_merchant = self.staged.merchant(merchant)
            if found_merchant is None:
                continue
            assert found_merchant.total_credits_purchased == self.model.total(merchant)
            assert found_merchant.trial_ends_at == self.model.trial_end.get(merchant)
            assert found_merchant.sequence == self.sequences.get(merchant, 0)

    @invariant()
    def no_event_is_told_twice(self) -> None:
        assert all(count == 1 for count in self.events.values())


Machine.TestCase.settings = settings(
    max_examples=800,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
TestAgainstTheModel = pytest.mark.timeout(180)(Machine.TestCase)
