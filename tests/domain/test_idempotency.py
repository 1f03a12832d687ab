"""Rules of idempotency keys."""

import pytest

from billing_stream.domain.commands import ReservePurchase, StartTrial
from billing_stream.domain.model import Platform
from billing_stream.domain.outcomes import ErrorCode, PurchaseOpened, TrialGranted
from billing_stream.domain.policy import Policy
from tests.support.world import (
    CHECKOUT,
    M1,
    M2,
    World,
    code_of,
    kinds,
    told,
    writes_nothing,
)


def keys(world: World) -> list[str]:
    """The keys whose answers are stored, oldest first."""
    return [answer.key for answer in world.rows.answers(M1)]


def test_the_same_key_gets_the_first_answer_and_has_no_second_effect() -> None:
    world = World().created()
    first = world.reserve(key="k")
    before = world.everything()

    again = world.later(hours=1).reserve(key="k")

    assert isinstance(first.reply, PurchaseOpened)
    assert again.reply == first.reply
    assert writes_nothing(again)
    assert world.everything() == before


def test_without_a_key_each_request_is_one_of_its_own() -> None:
    world = World().created()

    first, second = world.reserve().reply, world.reserve().reply

    assert isinstance(first, PurchaseOpened)
    assert isinstance(second, PurchaseOpened)
    assert first.purchase_id != second.purchase_id
    assert keys(world) == []


def test_a_trial_started_with_a_key_is_granted_again_to_the_same_key_only() -> None:
    world = World().created()
    first = world.do(StartTrial(M1, "k"))
    before = world.everything()

    again = world.later(hours=1).do(StartTrial(M1, "k"))
    none = world.do(StartTrial(M1))

    assert isinstance(first.reply, TrialGranted)
    assert again.reply == first.reply
    assert code_of(none) is ErrorCode.TRIAL_ALREADY_USED
    assert writes_nothing(again)
    assert writes_nothing(none)
    assert world.everything() == before
    assert code_of(world.do(StartTrial(M1, "another"))) is ErrorCode.TRIAL_ALREADY_USED
    assert kinds(world.log) == ["trial.started"]


def test_a_refusal_is_kept_as_the_answer_too() -> None:
    world = World().on_trial()
    first = world.do(StartTrial(M1, "k"))
    before = world.everything()

    again = world.do(StartTrial(M1, "k"))
    other = world.reserve(key="k")

    assert code_of(first) is ErrorCode.TRIAL_ALREADY_USED
    assert again.reply == first.reply
    assert code_of(other) is ErrorCode.IDEMPOTENCY_KEY_REUSED
    assert writes_nothing(again)
    assert writes_nothing(other)
    assert world.everything() == before


@pytest.mark.parametrize(
    "other",
    [
        ReservePurchase(M1, "large", Platform.SHOPIFY, "/", "k"),
        ReservePurchase(M1, "small", Platform.STRIPE, "/", "k"),
        ReservePurchase(M1, "small", Platform.SHOPIFY, "/elsewhere", "k"),
        ReservePurchase(M1, "gigantic", Platform.SHOPIFY, "/", "k"),
        StartTrial(M1, "k"),
    ],
)
def test_a_key_with_other_parameters_is_refused_and_changes_nothing(
    other: ReservePurchase | StartTrial,
) -> None:
    world = World().created()
    first = world.reserve(key="k")
    before = world.everything()

    decision = world.do(other)

    assert code_of(decision) is ErrorCode.IDEMPOTENCY_KEY_REUSED
    assert writes_nothing(decision)
    assert world.everything() == before
    assert world.reserve(key="k").reply == first.reply


def test_the_answer_has_its_checkout_once_a_charge_is_attached() -> None:
    world = World().created()
    first = world.reserve(key="k").reply
    assert isinstance(first, PurchaseOpened)
    assert first.checkout_url is None

    world.attach(first.purchase_id)
    before = world.everything()
    again = world.reserve(key="k")

    assert isinstance(again.reply, PurchaseOpened)
    assert again.reply.checkout_url == CHECKOUT
    assert again.reply.purchase_id == first.purchase_id
    assert writes_nothing(again)
    assert world.everything() == before


@pytest.mark.parametrize("after", ["paid", "failed", "refunded"])
def test_the_answer_stays_whatever_became_of_the_purchase(after: str) -> None:
    world = World().created()
    first = world.reserve(key="k").reply
    assert isinstance(first, PurchaseOpened)
    attached = world.attach(first.purchase_id)
    world.webhook("declined" if after == "failed" else "ACTIVE")
    if after == "refunded":
        world.refund()
    before = world.everything()

    again = world.reserve(key="k")

    assert again.reply == attached.reply
    assert writes_nothing(again)
    assert world.everything() == before


def test_keys_of_different_merchants_have_nothing_to_do_with_each_other() -> None:
    world = World().created(M1, M2)
    one = world.reserve(M1, key="k").reply

    other = world.reserve(M2, "large", key="k").reply

    assert isinstance(one, PurchaseOpened)
    assert isinstance(other, PurchaseOpened)
    assert one.purchase_id != other.purchase_id
    assert world.reserve(M1, key="k").reply == one


def test_a_key_is_kept_for_24_hours_and_then_free_again() -> None:
    world = World().created()
    first = world.reserve(key="k").reply

    kept = world.later(hours=24, microseconds=-1).reserve(key="k").reply
    fresh = world.later(microseconds=1).reserve(key="k").reply

    assert isinstance(first, PurchaseOpened)
    assert isinstance(fresh, PurchaseOpened)
    assert kept == first
    assert fresh.purchase_id != first.purchase_id
    assert world.reserve(key="k").reply == fresh


def test_a_key_that_was_forgotten_takes_other_parameters() -> None:
    world = World().created()
    world.reserve(key="k")

    decision = world.later(hours=24).do(StartTrial(M1, "k"))

    assert isinstance(decision.reply, TrialGranted)
    assert keys(world) == ["k"]


def test_asking_again_does_not_make_a_key_last_longer() -> None:
    world = World().created()
    first = world.reserve(key="k").reply
    world.later(hours=23).reserve(key="k")

    fresh = world.later(hours=1).reserve(key="k").reply

    assert isinstance(first, PurchaseOpened)
    assert isinstance(fresh, PurchaseOpened)
    assert fresh.purchase_id != first.purchase_id


def test_old_answers_are_dropped_with_the_next_key_and_young_ones_are_kept() -> None:
    world = World().created()
    for key in ("a", "b"):
        world.reserve(key=key)
    world.later(hours=2).reserve(key="young")

    decision = world.later(hours=23).reserve(key="c")

    assert decision.forgotten == ("a", "b")
    assert keys(world) == ["young", "c"]
    assert world.rows.answer_count(M1) == 2


def test_a_key_used_again_is_the_youngest_and_hides_no_older_one() -> None:
    world = World(Policy(answers_max=2)).created()
    world.reserve(key="a")
    world.later(hours=1).reserve(key="b")
    world.later(hours=23).reserve(key="a")

    decision = world.later(hours=2).reserve(key="c")

    assert code_of(decision) is None
    assert decision.forgotten == ("b",)
    assert keys(world) == ["a", "c"]


def test_more_keys_than_are_kept_are_refused_rather_than_forgotten() -> None:
    world = World(Policy(answers_max=2)).created()
    first = world.reserve(key="a")
    world.reserve(key="b")
    before = world.everything()

    refused = world.reserve(key="c")
    trial = world.do(StartTrial(M1, "d"))
    kept = world.reserve(key="a")

    assert code_of(refused) is code_of(trial) is ErrorCode.TOO_MANY_REQUESTS
    assert kept.reply == first.reply
    assert all(writes_nothing(decision) for decision in (refused, trial, kept))
    assert world.everything() == before


def test_a_full_store_of_answers_refuses_no_request_without_a_key() -> None:
    world = World(Policy(answers_max=1)).created()
    world.reserve(key="a")

    assert code_of(world.reserve()) is None
    assert code_of(world.do(StartTrial(M1))) is None


def test_room_for_keys_comes_back_when_old_ones_are_dropped() -> None:
    world = World(Policy(answers_max=2)).created()
    world.reserve(key="a")
    world.later(hours=12).reserve(key="b")
    assert code_of(world.reserve(key="c")) is ErrorCode.TOO_MANY_REQUESTS

    decision = world.later(hours=12).reserve(key="c")

    assert code_of(decision) is None
    assert keys(world) == ["b", "c"]


def test_a_request_that_could_not_be_understood_leaves_its_key_free() -> None:
    world = World().created()
    before = world.everything()

    refused = world.reserve(pack="gigantic", key="k")
    mended_before = world.everything()
    mended = world.reserve(pack="small", key="k")

    assert code_of(refused) is ErrorCode.INVALID_PACK
    assert writes_nothing(refused)
    assert mended_before == before
    assert isinstance(mended.reply, PurchaseOpened)


def test_a_kept_answer_does_not_keep_time_from_passing() -> None:
    world = World().on_trial()
    world.later(days=13, hours=23).reserve(key="k")

    again = world.later(hours=1).reserve(key="k")

    assert kinds(told(again)) == ["trial.expired"]
    assert isinstance(again.reply, PurchaseOpened)
    assert len(world.rows.purchases) == 1
