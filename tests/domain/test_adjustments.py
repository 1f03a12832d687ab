"""Credits that an operator gives or takes."""

from datetime import timedelta

import msgspec
import pytest
from msgspec.structs import replace

from billing_stream.domain.commands import ADJUSTMENT_MAX, AdjustCredits, Command
from billing_stream.domain.outcomes import (
    AdjustmentMade,
    CreditsAdjusted,
    CreditsPurchased,
    Decision,
    ErrorCode,
    PurchaseRefunded,
)
from tests.support.world import M1, M2, NOBODY, NOW, World, code_of, told, writes_nothing


def answer(decision: Decision) -> AdjustmentMade:
    assert isinstance(decision.reply, AdjustmentMade)
    return decision.reply


def test_credits_given_are_told_and_kept_beside_what_was_purchased() -> None:
    world = World().created()
    world.paid()
    before = world.merchant()

    decision = world.later(hours=1).adjust(25)

    (made,) = decision.adjustments
    assert decision.reply == AdjustmentMade(made.id, 25, 125)
    assert told(decision) == [CreditsAdjusted(M1, made.id, 25, "a gift")]
    assert (made.credits, made.reason, made.balance) == (25, "a gift", 125)
    assert world.merchant() == replace(
        before,
        credits_adjusted=25,
        updated_at=NOW + timedelta(hours=1),
        version=before.version + 1,
        sequence=before.sequence + 1,
    )
    assert world.merchant().total_credits_purchased == 100


def test_an_adjustment_publishes_its_note_next_to_the_reason() -> None:
    world = World().created()
    asked = AdjustCredits(M1, 25, "ticket 4711", "k", "c", "Sorry for the wait")

    first = world.do(asked)
    again = world.do(replace(asked, merchant_note="Another"))

    (made,) = first.adjustments
    note = "Sorry for the wait"
    assert told(first) == [CreditsAdjusted(M1, made.id, 25, "ticket 4711", note)]
    assert again.reply == first.reply
    assert writes_nothing(again)


@pytest.mark.parametrize("note", ["", "a" * 256, "a\x1b[2J", "a\nb", 7])
def test_a_note_for_a_merchant_is_one_plain_line(note: object) -> None:
    asked = {"merchant_id": M1, "credits": 5, "reason": "r", "idempotency_key": "k"}
    text = msgspec.json.encode({"command": "adjust_credits", **asked, "merchant_note": note})

    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=AdjustCredits)


def test_credits_can_be_taken_down_to_nothing_and_no_further() -> None:
    world = World().created()
    world.paid()
    before = world.everything()

    refused = world.adjust(-101, "too much")

    assert code_of(refused) == ErrorCode.INSUFFICIENT_CREDITS
    assert writes_nothing(refused)
    assert world.everything() == before
    assert answer(world.adjust(-100, "all of it")).balance == 0


def test_adjustment_repeated_much_later_is_made_once() -> None:
    world = World().created()
    first = world.adjust(25)
    world.adjust(1, "another")
    before = world.everything()

    again = world.later(days=3000).adjust(25)

    assert again.reply == first.reply
    assert writes_nothing(again)
    assert world.everything() == before


@pytest.mark.parametrize(("credits", "reason"), [(26, "a gift"), (-25, "a gift"), (25, "else")])
def test_a_key_with_another_adjustment_is_refused(credits: int, reason: str) -> None:
    world = World().created()
    world.adjust(25)

    refused = world.later(days=3000).adjust(credits, reason=reason)

    assert code_of(refused) == ErrorCode.IDEMPOTENCY_KEY_REUSED
    assert writes_nothing(refused)


def test_a_refused_adjustment_leaves_its_key_free() -> None:
    world = World().created()
    world.adjust(-10)
    world.paid()

    assert answer(world.adjust(-10)).balance == 90


def test_merchants_and_their_clients_have_keys_of_their_own() -> None:
    world = World().created(M1, M2)
    world.reserve(key="key")

    decisions = world.adjust(5, merchant=M1), world.adjust(5, merchant=M2)

    ids = {answer(decision).adjustment_id for decision in decisions}
    assert len(ids) == 2


def test_a_refund_is_honoured_though_the_credits_were_taken_before() -> None:
    world = World().created()
    world.paid()
    world.adjust(-100)

    world.refund()

    assert world.merchant().balance == -100
    assert code_of(world.adjust(-1, "more")) == ErrorCode.INSUFFICIENT_CREDITS
    assert answer(world.adjust(40, "settled")).balance == -60


def test_whoever_adds_up_the_events_gets_the_balance() -> None:
    world = World().on_trial()
    world.paid("c1")
    world.paid("c2", pack="large")
    world.refund("c1")
    world.adjust(-300, "a")
    world.adjust(20, "b")

    added = 0
    for data in world.log:
        if isinstance(data, CreditsPurchased | CreditsAdjusted):
            added += data.credits
        elif isinstance(data, PurchaseRefunded):
            added -= data.credits

    assert added == world.merchant().balance == 720


def test_an_unknown_merchant_gets_nothing() -> None:
    assert code_of(World().adjust(5, merchant=NOBODY)) == ErrorCode.MERCHANT_NOT_FOUND


@pytest.mark.parametrize(
    "credits", ["0", "-0", "5.0", '"5"', "true", "null", f"{ADJUSTMENT_MAX + 1}", "-1000001"]
)
def test_what_is_no_number_of_credits_is_no_command(credits: str) -> None:
    text = (
        f'{{"command":"adjust_credits","merchant_id":"{M1}","reason":"r","idempotency_key":"k",'
        f'"credits":{credits}}}'
    )
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=Command)


def test_an_adjustment_has_a_key() -> None:
    text = f'{{"command":"adjust_credits","merchant_id":"{M1}","reason":"r","credits":5}}'
    with pytest.raises(msgspec.ValidationError, match="idempotency_key"):
        msgspec.json.decode(text, type=AdjustCredits)
