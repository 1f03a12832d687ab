"""How many purchases of one merchant may be open at once."""

from datetime import timedelta

from billing_stream.domain.outcomes import ErrorCode, PurchaseOpened, Rejected
from billing_stream.domain.policy import Policy
from tests.support.world import M2, World, kinds

LIMIT = 3


def full() -> World:
    """A merchant with as many open purchases as it may have."""
    world = World(Policy(open_purchases_max=LIMIT)).created()
    for number in range(LIMIT):
        world.charged(f"c{number}")
    return world


def refused(world: World, key: str | None = None) -> bool:
    """Whether one more is refused."""
    reply = world.reserve(key=key).reply
    assert isinstance(reply, Rejected | PurchaseOpened)
    return isinstance(reply, Rejected) and reply.code is ErrorCode.TOO_MANY_OPEN_PURCHASES


def test_one_more_purchase_than_allowed_is_refused_and_changes_nothing() -> None:
    world = full()
    before = world.everything()

    assert refused(world)
    assert refused(world, key="key")
    assert world.everything() == before


def test_other_merchants_are_not_limited() -> None:
    world = full().created(M2)

    assert isinstance(world.reserve(M2).reply, PurchaseOpened)


def test_a_purchase_that_is_paid_declined_or_failed_makes_room() -> None:
    world = full()
    world.webhook("ACTIVE", "c0")
    unpaid = world.opened()
    assert refused(world)

    world.webhook("declined", "c1")
    assert not refused(world)
    assert refused(world)

    world.no_checkout(unpaid)
    assert not refused(world)


def test_an_overdue_purchase_makes_room_before_its_timer() -> None:
    world = full().later(hours=24)

    decision = world.reserve()

    assert kinds(decision.events) == ["purchase.expired"] * LIMIT
    assert isinstance(decision.reply, PurchaseOpened)


def test_a_key_that_was_refused_opens_a_purchase_when_there_is_room() -> None:
    world = full()
    assert refused(world, key="key")

    world.webhook("ACTIVE", "c0")

    assert isinstance(world.reserve(key="key").reply, PurchaseOpened)


def test_a_repeated_key_gets_its_answer_however_many_are_open() -> None:
    world = World(Policy(open_purchases_max=1)).created()
    first = world.reserve(key="key").reply

    assert refused(world)
    assert world.reserve(key="key").reply == first


def test_the_limit_holds_again_when_it_is_lowered() -> None:
    world = full()
    world.policy = Policy(open_purchases_max=1, purchase_expiry=timedelta(hours=24))

    assert refused(world)
    world.webhook("ACTIVE", "c0")
    assert refused(world)
