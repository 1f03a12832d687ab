"""What the old service says against what is here: only what nothing explains is a fault."""

from datetime import UTC, datetime, timedelta
from typing import Any

from billing_stream.domain.commands import ImportMerchant, OldPurchase, StartTrial
from billing_stream.domain.model import Platform
from billing_stream.migration.comparing import Comparison, Difference, in_all
from billing_stream.migration.current_rows import CurrentRows
from billing_stream.records.schemas import encode
from tests.support.world import M1, M2, NOW, World

OLD = datetime(2024, 5, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
P1 = "aaaaaaaa-0000-4000-8000-000000000001"
P2 = "aaaaaaaa-0000-4000-8000-000000000002"


def old(purchase_id: str = P1, status: Any = "completed", **fields: Any) -> OldPurchase:
    known: dict[str, Any] = {
        "credits": 500,
        "amount": "38.00",
        "platform": Platform.SHOPIFY,
        "created_at": OLD,
        "expires_at": NOW + HOUR,
        "platform_charge_id": f"c-{purchase_id[-1]}",
        "completed_at": OLD + HOUR if status == "completed" else None,
    }
    return OldPurchase(id=purchase_id, status=status, **{**known, **fields})


def command(*purchases: OldPurchase, merchant: str = M1, **fields: Any) -> ImportMerchant:
    paid = [p.completed_at for p in purchases if p.completed_at is not None]
    known = {"created_at": OLD, "last_purchase_at": max(paid, default=None), **fields}
    return ImportMerchant(merchant_id=merchant, purchases=purchases, **known)


def compared(world: World, *there: ImportMerchant) -> Comparison:
    """The old service, as it says it is, against the rows of a world."""
    here = CurrentRows(
        {merchant_id: encode(row) for merchant_id, row in world.rows.merchants.items()},
        {purchase_id: encode(row) for purchase_id, row in world.rows.purchases.items()},
    )
    comparison = Comparison(here, world.now)
    for merchant in there:
        comparison.take(merchant)
    comparison.finish()
    return comparison


def found(comparison: Comparison) -> list[tuple[str, str, str, bool]]:
    return [(d.kind, d.there, d.here, d.moved_on) for d in comparison.differences]


def test_what_was_just_imported_is_the_same_to_the_checksum() -> None:
    said = [
        command(old(), old(P2, "pending"), trial_available=False, trial_ends_at=NOW),
        command(merchant=M2),
    ]
    world = World()
    for one in said:
        world.do(one)

    comparison = compared(world, *reversed(said))

    assert found(comparison) == []
    for table, there in comparison.there.items():
        assert (there.count, there.text) == (
            comparison.here[table].count,
            comparison.here[table].text,
        )
        assert there.count == 2


def test_what_did_not_come_is_only_there() -> None:
    comparison = compared(World(), command(old()))

    assert found(comparison) == [
        ("only there", "a merchant", "none", False),
        ("only there", "completed", "none", False),
    ]


def test_a_merchant_that_was_only_heard_of_is_none() -> None:
    world = World()
    world.webhook("ACTIVE", "c-1")

    assert found(compared(world)) == []
    assert [d.kind for d in compared(world, command()).differences] == ["only there"]


def test_what_began_here_is_no_fault() -> None:
    world = World().created()
    world.paid("mine")

    comparison = compared(world)

    assert {(kind, moved_on) for kind, _, _, moved_on in found(comparison)} == {("only here", True)}
    assert len(found(comparison)) == 2


def test_changes_after_the_import_are_no_difference_and_explain_totals() -> None:
    said = command(old(status="pending"), old(P2))
    world = World()
    world.do(said)
    world.do(StartTrial(M1, command_id="t[0]@1"))
    world.webhook("ACTIVE", "c-1")
    world.refund("c-2")

    comparison = compared(world, said)

    assert found(comparison) == [
        ("trial", "available", "used", True),
        ("time", (OLD + HOUR).isoformat(), NOW.isoformat(), True),
        ("status", "pending", "completed", True),
        ("status", "completed", "refunded", True),
    ]


def test_a_total_that_no_purchase_explains_is_a_fault() -> None:
    world = World()
    world.do(command(old()))
    row = world.merchant()
    world.rows.put_merchant(type(row)(**{**_fields(row), "total_credits_purchased": 777}))

    assert found(compared(world, command(old()))) == [("total", "500", "777", False)]


def test_credits_of_a_purchase_that_is_only_here_explain_the_total() -> None:
    world = World()
    world.do(command(old(), old(P2)))

    comparison = compared(world, command(old()))

    assert found(comparison) == [
        ("only here", "none", "completed", True),
        ("total", "500", "1000", True),
    ]


def test_what_the_old_service_has_further_is_a_fault() -> None:
    world = World()
    world.do(command(old(status="pending"), old(P2, "failed")))

    comparison = compared(world, command(old(), old(P2), trial_available=False))

    assert [(kind, moved_on) for kind, _, _, moved_on in found(comparison)] == [
        ("trial", False),
        ("time", False),
        ("status", False),
        ("status", False),
        ("total", True),
    ]


def test_every_value_that_differs_is_named() -> None:
    world = World()
    world.do(command(old(), trial_available=False, trial_ends_at=NOW))
    other = old(credits=499, amount="38.01", platform=Platform.STRIPE, platform_charge_id="x")

    comparison = compared(world, command(other, trial_available=False, trial_ends_at=NOW + HOUR))

    named = [(d.kind, d.what) for d in comparison.differences]
    assert named == [
        ("trial", "trial_ends_at"),
        ("value", "credits"),
        ("value", "amount"),
        ("value", "platform"),
        ("value", "platform_charge_id"),
        ("total", "credits"),
    ]
    assert not any(d.moved_on for d in comparison.differences[:-1])


def test_overdue_purchase_counts_as_expired_published_or_not() -> None:
    said = command(old(status="pending"))
    world = World()
    world.do(said)
    world.later(hours=2)

    untold = compared(world, said)
    world.tick()
    told = compared(world, said)

    assert found(untold) == found(told) == []
    assert untold.here["credit_purchases"].text == told.here["credit_purchases"].text


def test_the_same_payment_told_to_both_is_near_in_time() -> None:
    said = command(old(status="pending"))
    world = World()
    world.do(said)
    world.webhook("ACTIVE", "c-1")

    near = compared(world, command(old(completed_at=NOW - timedelta(minutes=1))))
    far = compared(world, command(old(completed_at=NOW - HOUR)))

    assert {d.moved_on for d in near.differences} == {True}
    assert [(d.what, d.moved_on) for d in far.differences] == [
        ("last_purchase_at", True),
        ("completed_at", False),
    ]


def test_only_what_differs_in_every_look_is_left() -> None:
    def one(what: str, here: str) -> Difference:
        return Difference("value", M1, P1, what, "0", here, False)

    stays, passes, comes = one("credits", "1"), one("amount", "1"), one("platform", "1")

    assert in_all([[stays, passes], [one("credits", "2"), comes]]) == [one("credits", "2")]
    assert in_all([[stays]]) == [stays]


def _fields(row: Any) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__struct_fields__}
