"""Time: what falls due happens before the command, and a merchant's time never goes back."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from billing_stream.domain.commands import AdvanceTime, CreateMerchant, StartTrial
from billing_stream.domain.model import Merchant, Purchase
from billing_stream.domain.outcomes import Done, StoredResponse
from billing_stream.domain.reports import ParkedKind, ParkedWebhook
from tests.support.world import M1, M2, NOW, World, kinds, told

END = NOW + timedelta(days=14)


def test_deadlines_precede_the_command_so_a_late_timer_changes_no_outcome() -> None:
    world = World().on_trial()
    purchase = world.charged()

    decision = world.later(days=15).webhook("ACTIVE")

    assert kinds(decision.events) == ["purchase.expired", "trial.expired", "credits.purchased"]
    assert [event.sequence for event in decision.events] == [2, 3, 4]
    assert {event.at for event in decision.events} == {world.now}
    assert world.purchase(purchase).status == "completed"


@pytest.mark.parametrize("microseconds", [-1, 0])
def test_a_payment_at_the_instant_of_the_expiry_comes_after_it(microseconds: int) -> None:
    world = World().created()
    world.charged()

    decision = world.later(hours=24, microseconds=microseconds).webhook("ACTIVE")

    expired = ["purchase.expired"] if microseconds == 0 else []
    assert kinds(decision.events) == [*expired, "credits.purchased"]
    assert world.merchant().total_credits_purchased == 100


def test_a_decline_at_the_instant_of_the_expiry_finds_the_purchase_expired() -> None:
    world = World().created()
    purchase = world.charged()

    decision = world.later(hours=24).webhook("declined")

    assert kinds(decision.events) == ["purchase.expired"]
    assert world.purchase(purchase).status == "expired"


def test_a_webhook_given_up_by_now_is_not_claimed_any_more() -> None:
    world = World().created()
    world.webhook("ACTIVE")
    purchase = world.later(hours=1).opened()

    decision = world.later(hours=23).attach(purchase)

    assert decision.events == ()
    assert [unclaimed.parked.charge_id for unclaimed in decision.unclaimed] == ["charge"]
    assert world.purchase(purchase).status == "pending"


def test_a_merchants_time_never_goes_back() -> None:
    world = World().on_trial().later(days=20)
    world.tick()
    clock = world.merchant().updated_at
    assert clock == world.now

    world.later(days=-19)
    purchase = world.charged()
    paid = world.webhook("ACTIVE")

    assert world.purchase(purchase).created_at == clock
    assert world.purchase(purchase).expires_at == clock + timedelta(hours=24)
    assert world.purchase(purchase).completed_at == clock
    assert world.merchant().last_purchase_at == world.merchant().updated_at == clock
    assert [event.at for event in paid.events] == [clock]


def test_a_trial_that_starts_with_a_late_record_has_its_full_length() -> None:
    world = World().later(days=2).created()

    decision = world.do(StartTrial(M1), at=NOW)

    assert decision.merchant is not None
    assert decision.merchant.trial_started_at == NOW + timedelta(days=2)
    assert decision.merchant.trial_ends_at == NOW + timedelta(days=16)


def test_a_late_record_parks_at_the_merchants_time() -> None:
    world = World().later(hours=12).created()

    world.later(hours=-12).webhook("ACTIVE")

    assert [parked.at for parked in world.merchant().parked] == [NOW + timedelta(hours=12)]


def test_the_time_of_one_merchant_is_not_that_of_another() -> None:
    world = World().created(M1, M2)
    world.later(days=100).do(StartTrial(M1))

    world.later(days=-100).do(StartTrial(M2))

    assert world.merchant(M2).trial_ends_at == END
    assert world.merchant(M1).trial_ends_at == END + timedelta(days=100)


@pytest.mark.parametrize("merchant", [M1, M2])
def test_a_time_without_a_zone_is_refused_and_changes_nothing(merchant: str) -> None:
    world = World().created(M1)
    before = world.everything()

    with pytest.raises(ValueError, match="time zone"):
        world.do(CreateMerchant(merchant, "stripe", "new.example"), at=datetime(2026, 1, 2))  # noqa: DTZ001

    assert world.everything() == before


def test_a_row_with_a_naive_time_is_refused_when_it_is_read() -> None:
    world = World().on_trial()
    world.reserve(key="k")
    purchase = next(iter(world.rows.purchases.values()))
    answer = next(iter(world.rows.answers(M1)))
    parked = ParkedWebhook("charge", ParkedKind.FAIL, "declined", "w[0]@1", NOW)

    for row in (world.merchant(), purchase, answer, parked):
        text = msgspec.json.encode(row)
        assert msgspec.json.decode(text, type=type(row)) == row
        with pytest.raises(msgspec.ValidationError, match="timezone"):
            msgspec.json.decode(text.replace(b"Z", b""), type=type(row))


def test_all_times_of_all_rows_are_utc() -> None:
    world = World().on_trial()
    world.webhook("ACTIVE", "unknown")
    world.reserve(key="k")
    world.refund(charge := "charge")
    world.charged(charge)
    world.later(days=20).tick()

    merchants, purchases, answers, *_ = world.everything()

    rows: list[Merchant | Purchase | StoredResponse] = [
        *merchants.values(),
        *purchases.values(),
        *answers,
    ]
    times = [
        value
        for row in rows
        for name in row.__struct_fields__
        if isinstance(value := getattr(row, name), datetime)
    ]
    assert len(times) >= 10
    assert all(time.tzinfo is UTC for time in times)


Step = tuple[str, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["trial", "reserve", "attach", "ACTIVE", "declined", "refund", "no checkout"]
        ),
        st.sampled_from([0, 1, 60, 12 * 60, 24 * 60 - 1, 24 * 60, 3 * 24 * 60, 14 * 24 * 60]),
    ),
    max_size=15,
)


def play(steps: list[Step], ticks: list[int]) -> World:
    """Do the steps, each some minutes after the last; `ticks` of the timer before each."""
    world = World().created()
    last = "none"
    for index, (step, minutes) in enumerate(steps):
        looks = ticks[index % len(ticks)] if ticks else 0
        for _ in range(looks):
            world.later(minutes=minutes / looks).tick()
        if not looks:
            world.later(minutes=minutes)
        if step == "trial":
            world.do(StartTrial(M1))
        elif step == "reserve":
            last = world.opened()
        elif step == "attach":
            world.attach(last)
        elif step == "refund":
            world.refund()
        elif step == "no checkout":
            world.no_checkout(last)
        else:
            world.webhook(step)
    world.later(days=30).tick()
    return world


@settings(deadline=None, max_examples=150)
@given(STEPS, st.lists(st.integers(0, 3), min_size=1, max_size=15))
def test_timer_interval_changes_only_when_events_are_published(
    steps: list[Step], ticks: list[int]
) -> None:
    often, seldom = play(steps, ticks), play(steps, [])

    for purchase, row in seldom.rows.purchases.items():
        assert replace(often.purchase(purchase), version=0) == replace(row, version=0)
    # A timer that looks after the end of a trial announces it no more.
    same = {"version": 0, "sequence": 0, "updated_at": NOW, "trial_reminded": False}
    assert replace(often.merchant(), **same) == replace(seldom.merchant(), **same)
    told, told_late = (
        sorted((e.event_id, str(e.data)) for e in world.events if e.data.kind != "trial.ending")
        for world in (often, seldom)
    )
    assert told == told_late
    assert often.unclaimed == seldom.unclaimed


def test_a_look_that_finds_nothing_leaves_the_clock_where_it_was() -> None:
    world = World().created()
    before = world.everything()

    decision = world.do(AdvanceTime(M1), at=NOW + timedelta(days=9))

    assert decision.reply == Done()
    assert told(decision) == []
    assert world.everything() == before
