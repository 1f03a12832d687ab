"""What is kept of what was promised."""

from decimal import Decimal

from chaos.expected import Expected, PurchaseState


def test_a_purchase_that_nobody_paid_is_pending_and_gives_nothing() -> None:
    bought = PurchaseState("m", "small")

    assert (bought.status, bought.credits) == ("pending", 0)


def test_payment_refusal_and_refunds_lead_to_their_status_and_credits() -> None:
    assert (
        PurchaseState("m", "small", paid=True).status,
        PurchaseState("m", "small", paid=True).credits,
    ) == (
        "completed",
        100,
    )
    assert PurchaseState("m", "small", declined=True).status == "failed"
    whole = PurchaseState("m", "small", paid=True, refunds=[Decimal("9.99")])
    assert (whole.status, whole.credits) == ("refunded", 0)


def test_a_refund_proves_the_payment() -> None:
    assert PurchaseState("m", "small", refunds=[Decimal("9.99")]).status == "refunded"
    assert PurchaseState("m", "small", refunds=[Decimal("1.00")]).status == "completed"


def test_partial_refunds_take_credits_rounded_down_once_per_step() -> None:
    amounts = [Decimal("1.00"), Decimal("1.00"), Decimal("5.00"), Decimal("2.00")]
    bought = PurchaseState("m", "small", paid=True, refunds=amounts)

    assert bought.steps == [Decimal("1.00"), Decimal("5.00")]
    assert bought.credits == 100 - 50


def test_events_and_totals_follow_from_the_purchases() -> None:
    expected = Expected(domains={"m": "m.example", "n": "n.example"}, trials={"m"})
    expected.purchases = {
        "paid": PurchaseState("m", "medium", paid=True),
        "part": PurchaseState("m", "small", paid=True, refunds=[Decimal("1.00"), Decimal("9.99")]),
        "declined": PurchaseState("n", "large", declined=True),
    }

    events = expected.events()

    assert events["trial.started"] == {"m": 1}
    assert events["credits.purchased"] == {"paid": 1, "part": 1}
    assert events["purchase.failed"] == {"declined": 1}
    assert events["purchase.refunded"] == {"part": 2}
    assert expected.credits() == {"m": 500, "n": 0}


def test_the_same_request_must_get_the_same_bytes() -> None:
    expected = Expected()

    assert expected.answered("m", "/trials", "k", b"1") is None
    assert expected.answered("m", "/trials", "k", b"1") is None
    assert expected.answered("n", "/trials", "k", b"2") is None
    assert "b'2' after b'1'" in (expected.answered("m", "/trials", "k", b"2") or "")
