"""What is kept of what was promised."""

from decimal import Decimal

import pytest

from chaos.promises import Bought, Promises


@pytest.mark.parametrize(
    ("bought", "status", "credits"),
    [
        (Bought("m", "small"), "pending", 0),
        (Bought("m", "small", paid=True), "completed", 100),
        (Bought("m", "small", declined=True), "failed", 0),
        (Bought("m", "small", paid=True, refunds=[Decimal("9.99")]), "refunded", 0),
        (Bought("m", "small", refunds=[Decimal("9.99")]), "refunded", 0),
        (Bought("m", "small", refunds=[Decimal("1.00")]), "completed", 90),
        (Bought("m", "small", refunds=[Decimal("1.00"), Decimal("5.00")] * 2), "completed", 50),
    ],
)
def test_what_was_told_leads_to_status_and_credits(
    bought: Bought, status: str, credits: int
) -> None:
    purchase, left, _ = bought.outcome()

    assert (purchase.status, left) == (status, credits)


def test_events_and_totals_follow_from_the_purchases() -> None:
    promises = Promises(domains={"m": "m.example", "n": "n.example"}, trials={"m"})
    promises.purchases = {
        "paid": Bought("m", "medium", paid=True),
        "part": Bought("m", "small", paid=True, refunds=[Decimal("1.00"), Decimal("9.99")]),
        "declined": Bought("n", "large", declined=True),
    }

    events = promises.events()

    assert events["trial.started"] == {"m": 1}
    assert events["credits.purchased"] == {"paid": 1, "part": 1}
    assert events["purchase.failed"] == {"declined": 1}
    assert events["purchase.refunded"] == {"part": 2}
    assert promises.credits() == {"m": 500, "n": 0}


def test_the_same_request_must_get_the_same_bytes() -> None:
    promises = Promises()

    assert promises.answered("m", "/trials", "k", b"1") is None
    assert promises.answered("m", "/trials", "k", b"1") is None
    assert promises.answered("n", "/trials", "k", b"2") is None
    assert "2 after 1" in (promises.answered("m", "/trials", "k", b"2") or "")
