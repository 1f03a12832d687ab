"""Rules of refunds, failed refunds and disputes, in whatever order they are reported."""

from random import Random

import pytest

from billing_stream.domain.commands import DisputeCharge, FailRefund, RefundCharge, UpdateCharge
from billing_stream.domain.outcomes import (
    Decision,
    ErrorCode,
    EventData,
    PurchaseDisputeClosed,
    PurchaseDisputed,
    PurchaseRefunded,
    PurchaseRefundFailed,
    Rejected,
)
from billing_stream.domain.policy import Policy
from billing_stream.domain.reports import DisputeStatus
from billing_stream.records.topics import CREDITS_SIGN
from tests.support.reports import IN_DOLLARS, IN_YEN, report
from tests.support.world import M1, World, told


def paid(policy: Policy | None = None) -> tuple[World, str]:
    """A merchant that has paid 9.99 for 100 credits."""
    world = World(policy).created()
    return world, world.paid()


def tell(world: World, what: str, command_id: str = "") -> Decision:
    """A report about the charge."""
    return world.do(report(M1, "charge", what, command_id))


def added_up(events: list[EventData]) -> int:
    """What a consumer gets that adds up all events."""
    counted = [event for event in events if event.kind in CREDITS_SIGN]
    return sum(CREDITS_SIGN[event.kind] * event.credits for event in counted)  # type: ignore[misc, union-attr]


@pytest.mark.parametrize("pool", [IN_DOLLARS, IN_YEN], ids=["dollars", "yen"])
@pytest.mark.parametrize("seed", range(20))
def test_any_order_and_repetition_leads_to_the_same_balance(
    pool: tuple[str, ...], seed: int
) -> None:
    random = Random(seed)
    words = random.sample(sorted(pool), random.randint(2, 7)) * 4
    ends = set()
    for _ in range(8):
        random.shuffle(words)
        world = World().created()
        purchase = world.charged()
        for number, word in enumerate(words):
            tell(world, word, f"x[0]@{number}")
        row = world.purchase(purchase)
        ends.add((world.merchant().balance, row.refunded_credits, row.disputed_credits))
        assert added_up(world.log) == world.merchant().balance
        assert len({event.event_id for event in world.events}) == len(world.events)

    assert len(ends) == 1


def test_a_hundred_repetitions_count_once() -> None:
    world, _ = paid()
    words = ["refund r1", "fail r1", "dispute d1", "win d1", "refund 3.00", "fail r4"]
    for number in range(600):
        tell(world, words[number % 6], f"x[0]@{number}")

    assert world.merchant().balance == 100
    assert added_up(world.log) == 100


def test_a_failed_refund_returns_exactly_what_it_took() -> None:
    world, purchase = paid()
    tell(world, "refund")
    assert (world.merchant().balance, world.purchase(purchase).status) == (0, "refunded")

    decision = world.do(FailRefund(M1, "charge", "re_1", amount="9.99"))

    assert told(decision) == [PurchaseRefundFailed(M1, purchase, 100)]
    assert (world.merchant().balance, world.purchase(purchase).status) == (100, "completed")


def test_a_refund_that_failed_before_it_was_reported_takes_nothing() -> None:
    world, _ = paid()

    tell(world, "fail r1")
    decision = tell(world, "refund r1")

    assert told(decision) == []
    assert world.merchant().balance == 100


@pytest.mark.parametrize(
    ("amount", "charge_amount", "currency", "taken"),
    [
        ("300", "1500", "JPY", 20),
        ("307", "3070", "HUF", 10),
        ("0.307", "3.070", "KWD", 10),
        ("1500", "1500", "JPY", 100),
        ("2000", "1500", "JPY", 100),
        ("4.99", None, None, 49),
        ("4.99", None, "USD", 49),
    ],
)
def test_a_refund_is_a_share_of_the_charge(
    amount: str, charge_amount: str | None, currency: str | None, taken: int
) -> None:
    world, _ = paid()

    world.do(
        RefundCharge(M1, "charge", amount=amount, charge_amount=charge_amount, currency=currency)
    )

    assert world.merchant().balance == 100 - taken


def test_another_currency_without_the_charge_is_refused() -> None:
    world, _ = paid()

    decision = tell(world, "refund 5 EUR")

    assert isinstance(decision.reply, Rejected)
    assert decision.reply.code is ErrorCode.PAYMENT_MISMATCH
    assert world.merchant().balance == 100


def test_increments_and_sums_do_not_take_the_same_twice() -> None:
    world, _ = paid()

    tell(world, "refund r1")
    tell(world, "refund 3.00")

    # 3.00 of 9.99 in all, of which 2.00 have an id of their own.
    assert world.merchant().balance == 70


def test_a_dispute_takes_and_its_end_returns_exactly_that() -> None:
    world, purchase = paid()
    tell(world, "refund 3.00")
    assert world.merchant().balance == 70

    opened = tell(world, "dispute d1")
    assert world.merchant().balance == 0
    closed = tell(world, "reinstate d1")

    taken, back = DisputeStatus.WITHDRAWN, DisputeStatus.REINSTATED
    assert told(opened) == [PurchaseDisputed(M1, purchase, "d1", taken, -70)]
    assert told(closed) == [PurchaseDisputeClosed(M1, purchase, "d1", back, 70)]
    assert world.merchant().balance == 70


def test_a_refund_after_a_dispute_takes_nothing_twice() -> None:
    world, purchase = paid()
    tell(world, "dispute d1")

    decision = tell(world, "refund")

    assert told(decision) == [PurchaseRefunded(M1, purchase, 0, "9.99", "USD", "small")]
    assert world.merchant().balance == 0
    tell(world, "reinstate d1")
    assert world.merchant().balance == 0


@pytest.mark.parametrize("won", ["win d1", "reinstate d1"])
def test_a_refund_after_a_won_dispute_takes_all(won: str) -> None:
    world, _ = paid()
    tell(world, "dispute d1")
    tell(world, won)
    assert world.merchant().balance == 100

    tell(world, "refund")

    assert world.merchant().balance == 0


def test_a_lost_dispute_changes_nothing_more() -> None:
    world, purchase = paid()
    tell(world, "dispute d1")

    decision = tell(world, "lose d1")

    lost = DisputeStatus.LOST
    assert told(decision) == [PurchaseDisputeClosed(M1, purchase, "d1", lost, 0)]
    assert world.merchant().balance == 0


def test_a_lost_dispute_alone_takes_what_was_withdrawn() -> None:
    world, purchase = paid()

    decision = tell(world, "lose d1")
    late = tell(world, "dispute d1")

    lost = DisputeStatus.LOST
    assert told(decision) == [PurchaseDisputeClosed(M1, purchase, "d1", lost, -100)]
    assert told(late) == []


def test_the_balance_may_be_below_zero() -> None:
    world, _ = paid()
    world.adjust(-100)

    tell(world, "dispute d1")

    assert world.merchant().balance == -100


def test_a_purchase_keeps_a_hundred_refunds() -> None:
    world, _ = paid()
    for number in range(100):
        world.do(RefundCharge(M1, "charge", refund_id=f"r{number}", amount="0.01"))

    decision = world.do(RefundCharge(M1, "charge", refund_id="one more", amount="0.01"))

    assert isinstance(decision.reply, Rejected)
    assert decision.reply.code is ErrorCode.TOO_MANY_REFUNDS
    assert world.merchant().balance == 90


@pytest.mark.parametrize(
    ("amount", "currency", "granted"),
    [
        ("9.99", "USD", True),
        ("9.990", None, True),
        ("12.00", "USD", True),
        (None, None, True),
        ("9.98", "USD", False),
        ("0.01", None, False),
        ("0", "USD", False),
        ("999", "JPY", False),
        (None, "EUR", False),
    ],
)
def test_what_was_paid_is_compared_with_the_price(
    amount: str | None, currency: str | None, granted: bool
) -> None:
    world = World().created()
    purchase = world.charged()

    decision = world.do(UpdateCharge(M1, "charge", "active", "", amount, currency))

    assert world.merchant().balance == (100 if granted else 0)
    assert world.purchase(purchase).status == ("completed" if granted else "pending")
    refused = isinstance(decision.reply, Rejected) and decision.reply.code
    assert refused == (False if granted else ErrorCode.PAYMENT_MISMATCH)


def test_what_was_paid_early_is_compared_when_its_charge_is_attached() -> None:
    world = World().created()
    purchase = world.opened()
    world.do(UpdateCharge(M1, "charge", "active", "w[0]@1", "1.00", "USD"))

    decision = world.attach(purchase)

    assert world.merchant().balance == 0
    (given_up,) = decision.unclaimed
    assert given_up.refused is not None
    assert given_up.refused.code is ErrorCode.PAYMENT_MISMATCH


def test_discounts_are_accepted_where_that_is_set() -> None:
    world = World(Policy(accept_discounts=True)).created()
    purchase = world.charged()

    other = world.do(UpdateCharge(M1, "charge", "active", "", "9.99", "EUR"))
    world.do(UpdateCharge(M1, "charge", "active", "", "7.49", "USD"))
    half = world.do(RefundCharge(M1, "charge", amount="7.49"))

    assert isinstance(other.reply, Rejected)
    assert world.purchase(purchase).discount == "2.50"
    assert told(half) == [PurchaseRefunded(M1, purchase, 100, "7.49", "USD", "small")]


@pytest.mark.parametrize("status", ["paid", "succeeded", "refunded", "chargeback", "acti ve", " "])
def test_an_unknown_status_is_refused_and_changes_nothing(status: str) -> None:
    world = World().created()
    purchase = world.charged()
    before = world.everything()

    decision = world.do(UpdateCharge(M1, "charge", status))

    assert isinstance(decision.reply, Rejected)
    assert decision.reply.code is ErrorCode.UNKNOWN_STATUS
    assert world.everything() == before
    assert world.purchase(purchase).status == "pending"


@pytest.mark.parametrize("status", [" active", "Accepted\n", "\tACTIVE "])
def test_spaces_around_a_status_are_ignored(status: str) -> None:
    world = World().created()
    world.charged()

    world.do(UpdateCharge(M1, "charge", status))

    assert world.merchant().balance == 100


def test_a_dispute_of_an_unpaid_purchase_proves_its_payment() -> None:
    world = World().created()
    world.charged()

    world.do(DisputeCharge(M1, "charge", "d1", DisputeStatus.WITHDRAWN))

    assert added_up(world.log) == world.merchant().balance == 0
