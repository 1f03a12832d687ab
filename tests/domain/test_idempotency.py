"""Rules of idempotency keys."""

from billing_stream.domain.commands import StartTrial
from billing_stream.domain.model import Policy
from billing_stream.domain.outcomes import (
    ErrorCode,
    PurchaseOpened,
    Rejected,
    TrialGranted,
)
from tests.support.world import M1, M2, World, kinds


def test_the_same_key_gets_the_first_answer_and_has_no_second_effect() -> None:
    world = World().created()
    first = world.reserve(key="k")

    again = world.later(hours=1).reserve(key="k")

    assert again.reply == first.reply
    assert (again.merchant, again.purchases) == (None, ())
    assert len(world.rows.purchases) == 1


def test_a_trial_started_with_a_key_is_granted_again_to_the_same_key_only() -> None:
    world = World().created()
    first = world.do(StartTrial(M1, "k"))

    again = world.later(hours=1).do(StartTrial(M1, "k"))
    other = world.do(StartTrial(M1, "another"))

    assert isinstance(first.reply, TrialGranted)
    assert again.reply == first.reply
    assert isinstance(other.reply, Rejected)
    assert kinds(world.log) == ["trial.started"]


def test_a_refusal_is_kept_as_the_answer_too() -> None:
    world = World().on_trial()
    first = world.do(StartTrial(M1, "k"))

    again = world.do(StartTrial(M1, "k"))

    assert isinstance(first.reply, Rejected)
    assert again.reply == first.reply
    assert again.merchant is None


def test_a_key_with_other_parameters_is_refused_and_changes_nothing() -> None:
    world = World().created()
    world.reserve(key="k")

    for decision in (
        world.reserve(key="k", pack="large"),
        world.reserve(key="k", url="/elsewhere"),
        world.do(StartTrial(M1, "k")),
    ):
        assert isinstance(decision.reply, Rejected)
        assert decision.reply.code is ErrorCode.IDEMPOTENCY_KEY_REUSED
        assert decision.merchant is None
    assert len(world.rows.purchases) == 1


def test_the_answer_has_its_checkout_once_a_charge_is_attached() -> None:
    world = World().created()
    first = world.reserve(key="k").reply
    assert isinstance(first, PurchaseOpened)
    assert first.checkout_url is None

    world.attach(first.purchase_id, "charge")
    again = world.reserve(key="k").reply

    assert isinstance(again, PurchaseOpened)
    assert again.checkout_url == "https://pay.example/1"
    assert again.purchase_id == first.purchase_id


def test_keys_of_different_merchants_have_nothing_to_do_with_each_other() -> None:
    world = World().created(M1, M2)
    one = world.reserve(M1, key="k").reply

    other = world.reserve(M2, "large", key="k").reply

    assert isinstance(one, PurchaseOpened)
    assert isinstance(other, PurchaseOpened)
    assert one.purchase_id != other.purchase_id


def test_a_key_is_kept_for_24_hours_and_then_free_again() -> None:
    world = World().created()
    first = world.reserve(key="k").reply

    kept = world.later(hours=24, seconds=-1).reserve(key="k").reply
    fresh = world.later(seconds=1).reserve(key="k").reply

    assert isinstance(first, PurchaseOpened)
    assert isinstance(kept, PurchaseOpened)
    assert isinstance(fresh, PurchaseOpened)
    assert kept.purchase_id == first.purchase_id
    assert fresh.purchase_id != first.purchase_id


def test_old_answers_are_dropped_with_the_next_key() -> None:
    world = World().created()
    for key in ("a", "b"):
        world.reserve(key=key)

    decision = world.later(hours=25).reserve(key="c")

    assert set(decision.forgotten) == {"a", "b"}
    assert [answer.key for answer in world.rows.answers(M1)] == ["c"]


def test_more_keys_than_are_kept_are_refused_rather_than_forgotten() -> None:
    world = World(Policy(answers_max=2)).created()
    world.reserve(key="a")
    world.reserve(key="b")

    refused = world.reserve(key="c")
    kept = world.reserve(key="a")

    assert isinstance(refused.reply, Rejected)
    assert refused.reply.code is ErrorCode.TOO_MANY_REQUESTS
    assert isinstance(kept.reply, PurchaseOpened)
    assert len(world.rows.purchases) == 2
    assert isinstance(world.later(hours=25).reserve(key="c").reply, PurchaseOpened)


def test_a_request_that_could_not_be_understood_leaves_its_key_free() -> None:
    world = World().created()
    world.reserve(pack="gigantic", key="k")

    mended = world.reserve(pack="small", key="k")

    assert isinstance(mended.reply, PurchaseOpened)
