"""Rules of a purchase."""

from datetime import timedelta
from decimal import Decimal

import pytest
from msgspec.structs import replace

from billing_stream.domain.commands import AttachCharge, FailPurchase, RefundCharge, ReservePurchase
from billing_stream.domain.model import Platform, Purchase, PurchaseStatus
from billing_stream.domain.outcomes import (
    CreditsPurchased,
    Decision,
    Done,
    ErrorCode,
    PurchaseExpired,
    PurchaseFailed,
    PurchaseOpened,
    PurchaseRefunded,
    Rejected,
)
from billing_stream.domain.policy import Pack, Policy
from tests.support.world import (
    CHECKOUT,
    M1,
    M2,
    NOBODY,
    NOW,
    World,
    code_of,
    kinds,
    told,
    writes_nothing,
)

DAY = timedelta(hours=24)
PACKS = [("small", 100, "9.99"), ("medium", 500, "39.99"), ("large", 1000, "69.99")]


@pytest.mark.parametrize(("pack", "credits", "amount"), PACKS)
@pytest.mark.parametrize("platform", list(Platform))
def test_a_reserved_purchase_is_pending_and_grants_nothing(
    pack: str, credits: int, amount: str, platform: Platform
) -> None:
    world = World().created()
    before = world.merchant()

    decision = world.do(ReservePurchase(M1, pack, platform, command_id="c[0]@1"))

    assert isinstance(decision.reply, PurchaseOpened)
    purchase_id = decision.reply.purchase_id
    assert decision.reply == PurchaseOpened(purchase_id, credits, amount, NOW + DAY, None)
    assert decision.events == ()
    assert world.purchase(purchase_id) == Purchase(
        id=purchase_id,
        merchant_id=M1,
        credits=credits,
        amount=amount,
        status=PurchaseStatus.PENDING,
        platform=platform,
        created_at=NOW,
        expires_at=NOW + DAY,
        version=2,
        currency="USD",
        pack=pack,
    )
    assert world.merchant() == replace(before, version=2)


def test_an_unknown_pack_is_refused_and_opens_nothing() -> None:
    world = World().created()
    before = world.everything()

    for pack in ("gigantic", "Small", "small "):
        decision = world.reserve(pack=pack)

        assert code_of(decision) is ErrorCode.INVALID_PACK
        assert writes_nothing(decision)
    assert world.everything() == before


def test_packs_and_expiry_are_policy() -> None:
    packs = {"tiny": Pack(1, {"USD": "0.10"})}
    world = World(Policy(packs=packs, purchase_expiry=timedelta(seconds=90))).created()

    reply = world.reserve(pack="tiny").reply

    assert isinstance(reply, PurchaseOpened)
    assert (reply.credits, reply.amount) == (1, "0.10")
    assert reply.expires_at == NOW + timedelta(seconds=90)
    assert code_of(world.reserve(pack="small")) is ErrorCode.INVALID_PACK


def test_a_purchase_keeps_what_its_pack_was_when_it_was_opened() -> None:
    world = World().created()
    purchase = world.charged()
    world.policy = Policy(packs={"small": Pack(1, {"USD": "99.99"})})

    decision = world.webhook("ACTIVE")

    assert told(decision) == [
        CreditsPurchased(M1, purchase, 100, "9.99", Platform.SHOPIFY, "USD", "small")
    ]


def test_the_same_record_twice_opens_one_purchase() -> None:
    world = World().created()
    command = ReservePurchase(M1, "small", Platform.SHOPIFY, command_id="c[0]@7")
    first = world.do(command)
    before = world.everything()

    again = world.later(minutes=1).do(command)

    assert again.reply == first.reply
    assert writes_nothing(again)
    assert world.everything() == before


def test_a_charge_is_attached_with_its_checkout_and_grants_nothing() -> None:
    world = World().created()
    purchase = world.opened()
    before, merchant = world.purchase(purchase), world.merchant()

    decision = world.attach(purchase, "charge")

    assert decision.reply == PurchaseOpened(purchase, 100, "9.99", NOW + DAY, CHECKOUT)
    assert decision.events == ()
    assert world.purchase(purchase) == replace(
        before,
        platform_charge_id="charge",
        checkout_url=CHECKOUT,
        version=merchant.version + 1,
    )
    assert world.merchant() == replace(merchant, version=merchant.version + 1)


def test_the_first_charge_of_a_purchase_stays() -> None:
    world = World().created()
    purchase = world.charged("first")
    before = world.everything()

    other = world.attach(purchase, "second")
    same = world.do(AttachCharge(M1, purchase, "first", "https://pay.example/other"))

    assert code_of(other) is ErrorCode.CHARGE_MISMATCH
    assert same.reply == PurchaseOpened(purchase, 100, "9.99", NOW + DAY, CHECKOUT)
    assert writes_nothing(other)
    assert writes_nothing(same)
    assert world.everything() == before


def test_a_refused_charge_does_not_claim_what_waits_for_it() -> None:
    world = World().created()
    purchase = world.charged("first")
    world.webhook("ACTIVE", "second")

    decision = world.attach(purchase, "second")

    assert code_of(decision) is ErrorCode.CHARGE_MISMATCH
    assert world.purchase(purchase).status == "pending"
    assert [parked.charge_id for parked in world.merchant().parked] == ["second"]


def test_a_charge_belongs_to_one_purchase() -> None:
    world = World().created()
    world.charged("charge")
    other = world.opened()
    before = world.everything()

    decision = world.attach(other, "charge")

    assert code_of(decision) is ErrorCode.CHARGE_MISMATCH
    assert writes_nothing(decision)
    assert world.everything() == before


@pytest.mark.parametrize("end", ["failed", "expired"])
def test_failed_or_expired_purchase_takes_its_charge_for_a_late_payment(
    end: str,
) -> None:
    world = World().created()
    purchase = world.opened()
    if end == "failed":
        world.no_checkout(purchase)
    else:
        world.later(hours=25).tick()

    attached = world.attach(purchase)
    paid = world.webhook("ACTIVE")

    assert attached.events == ()
    assert kinds(paid.events) == ["credits.purchased"]
    assert kinds(world.log) == [f"purchase.{end}", "credits.purchased"]
    assert world.purchase(purchase).status == "completed"


def test_another_merchants_purchase_is_as_good_as_none() -> None:
    world = World().created(M1, M2)
    purchase = world.opened(M1)
    before = world.everything()

    theirs = [
        world.do(AttachCharge(M2, purchase, "charge", CHECKOUT)),
        world.do(FailPurchase(M2, purchase, "no")),
    ]
    none = [
        world.do(AttachCharge(M2, NOBODY, "charge", CHECKOUT)),
        world.do(FailPurchase(M2, NOBODY, "no")),
    ]

    for decision in theirs + none:
        assert code_of(decision) is ErrorCode.PURCHASE_NOT_FOUND
        assert writes_nothing(decision)
    assert world.everything() == before


def test_merchants_may_have_charges_of_the_same_name() -> None:
    world = World().created(M1, M2)
    one, other = world.charged("charge", M1), world.charged("charge", M2)

    decision = world.webhook("ACTIVE", "charge", M2)

    assert kinds(decision.events) == ["credits.purchased"]
    assert world.purchase(one).status == "pending"
    assert world.purchase(other).status == "completed"


@pytest.mark.parametrize(("pack", "credits", "amount"), PACKS)
def test_a_paid_purchase_grants_its_credits_once(pack: str, credits: int, amount: str) -> None:
    world = World().created()
    purchase = world.charged(pack=pack)
    before, row = world.merchant(), world.purchase(purchase)
    paid_at = NOW + timedelta(minutes=1)

    first = world.later(minutes=1).webhook("ACTIVE")
    after = world.everything()
    again = world.later(minutes=1).webhook("ACTIVE")

    assert first.reply == again.reply == Done()
    assert told(first) == [
        CreditsPurchased(M1, purchase, credits, amount, Platform.SHOPIFY, "USD", pack)
    ]
    assert writes_nothing(again)
    assert world.everything() == after
    assert world.merchant() == replace(
        before,
        total_credits_purchased=credits,
        last_purchase_at=paid_at,
        updated_at=paid_at,
        version=before.version + 1,
        sequence=1,
    )
    assert world.purchase(purchase) == replace(
        row,
        status=PurchaseStatus.COMPLETED,
        completed_at=paid_at,
        version=before.version + 1,
    )


def test_the_total_is_the_sum_of_what_was_paid() -> None:
    world = World().created()
    for pack, _, _ in PACKS:
        world.paid(pack, pack=pack)
    world.charged("unpaid")

    assert world.merchant().total_credits_purchased == 1600


def test_a_purchase_that_is_not_paid_in_time_expires_once() -> None:
    world = World().created()
    purchase = world.charged()
    row = world.purchase(purchase)

    before = world.later(hours=24, microseconds=-1).tick()
    first = world.later(microseconds=1).tick()
    after = world.everything()
    again = world.later(hours=24).tick()

    assert writes_nothing(before)
    assert told(first) == [PurchaseExpired(M1, purchase, "not paid in time")]
    assert writes_nothing(again)
    assert world.everything() == after
    assert world.merchant().total_credits_purchased == 0
    assert world.purchase(purchase) == replace(
        row, status=PurchaseStatus.EXPIRED, version=world.merchant().version
    )


def test_purchases_expire_in_the_order_of_opening_and_the_rest_stays() -> None:
    world = World().created()
    opened = [world.later(minutes=1).opened() for _ in range(3)]
    young = world.later(hours=12).opened()
    paid = world.paid()

    decision = world.later(hours=13).tick()

    assert told(decision) == [PurchaseExpired(M1, p, "not paid in time") for p in opened]
    assert world.purchase(young).status == "pending"
    assert world.purchase(paid).status == "completed"


def test_a_platform_that_gives_no_checkout_fails_the_purchase_once() -> None:
    world = World().created()
    purchase = world.opened()
    row = world.purchase(purchase)

    first = world.no_checkout(purchase)
    after = world.everything()
    again = world.no_checkout(purchase)

    assert first.reply == again.reply == Done()
    assert told(first) == [PurchaseFailed(M1, purchase, "platform error")]
    assert writes_nothing(again)
    assert world.everything() == after
    assert world.purchase(purchase) == replace(
        row,
        status=PurchaseStatus.FAILED,
        no_checkout="platform error",
        version=world.merchant().version,
    )


def test_purchase_with_a_checkout_stays_open_after_a_failed_attempt() -> None:
    world = World().created()
    purchase = world.charged()
    before = world.everything()

    decision = world.no_checkout(purchase)

    assert decision.reply == Done()
    assert writes_nothing(decision)
    assert world.everything() == before


def test_repeated_open_gets_the_same_reply_with_or_without_a_checkout() -> None:
    world = World().created()
    got = world.reserve(key="got").reply
    none = world.reserve(key="none").reply
    assert isinstance(got, PurchaseOpened)
    assert isinstance(none, PurchaseOpened)
    world.attach(got.purchase_id)
    world.no_checkout(none.purchase_id)

    good, bad = world.reserve(key="got").reply, world.reserve(key="none").reply
    world.webhook("declined")
    world.attach(none.purchase_id, "too late")
    world.later(hours=23)

    assert good == replace(got, checkout_url=CHECKOUT)
    assert bad == Rejected(ErrorCode.PLATFORM_ERROR, "no checkout was opened: platform error")
    assert world.reserve(key="got").reply == good
    assert world.reserve(key="none").reply == bad


def test_an_expired_purchase_without_a_checkout_gets_none_any_more() -> None:
    world = World(Policy(purchase_expiry=timedelta(hours=1))).created()
    world.reserve(key="k")

    decision = world.later(hours=2).reserve(key="k")

    assert code_of(decision) == ErrorCode.PLATFORM_ERROR


@pytest.mark.parametrize(
    ("amounts", "credits"),
    [
        (["3.00"], [30]),
        (["3.00", "3.00", "2.00"], [30]),
        (["3.00", "9.99"], [30, 70]),
        (["0.01", "0.11", "9.98", "9.99"], [0, 1, 98, 1]),
        (["5.00", None], [50, 50]),
        (["1000"], [100]),
    ],
)
def test_partial_refund_takes_its_share_and_the_last_cent_the_rest(
    amounts: list[str | None], credits: list[int]
) -> None:
    world = World().created()
    purchase = world.paid()

    told = [
        event
        for amount in amounts
        for event in world.do(RefundCharge(M1, "charge", "r[0]@1", amount=amount)).events
    ]

    data = [event.data for event in told]
    assert [e.credits for e in data if isinstance(e, PurchaseRefunded)] == credits
    assert len({event.event_id for event in told}) == len(credits)
    row = world.purchase(purchase)
    assert row.refunded_credits == sum(credits)
    assert world.merchant().total_credits_purchased == 100 - sum(credits)
    whole = sum(credits) == 100
    assert row.status == ("refunded" if whole else "completed")
    assert Decimal(row.refunded_amount) == sum(
        Decimal(e.amount) for e in data if isinstance(e, PurchaseRefunded)
    )


@pytest.mark.parametrize("before", ["pending", "paid"])
def test_a_refund_of_nothing_is_nothing(before: str) -> None:
    world = World().created()
    if before == "paid":
        world.paid()
    else:
        world.charged()

    for amount in ("0", "0.00"):
        decision = world.do(RefundCharge(M1, "charge", "r[0]@1", amount=amount))
        assert writes_nothing(decision)


def test_a_checkout_that_comes_after_the_expiry_changes_no_answer() -> None:
    world = World(Policy(purchase_expiry=timedelta(hours=1))).created()
    opened = world.reserve(key="k").reply
    assert isinstance(opened, PurchaseOpened)
    before = world.later(hours=2).reserve(key="k").reply

    world.attach(opened.purchase_id)
    after = world.reserve(key="k").reply
    world.webhook("ACTIVE")

    assert isinstance(before, Rejected)
    assert before == after == world.reserve(key="k").reply
    assert world.purchase(opened.purchase_id).status == "completed", "paid is paid"


def test_a_refund_may_name_the_purchase_instead_of_its_charge() -> None:
    world = World().created(M1, M2)
    purchase, other = world.paid("a"), world.paid("b")

    world.do(RefundCharge(M1, "pi_1", "r[0]@1", purchase))
    stranger = world.do(RefundCharge(M2, "pi_2", "r[0]@2", other))

    assert world.purchase(purchase).status == "refunded"
    assert world.purchase(other).status == "completed"
    assert stranger.merchant is not None
    assert [parked.charge_id for parked in stranger.merchant.parked] == ["pi_2"]


def test_a_paid_purchase_cannot_be_failed() -> None:
    world = World().created()
    purchase = world.paid()
    before = world.everything()

    decision = world.no_checkout(purchase)

    assert decision.reply == Done()
    assert writes_nothing(decision)
    assert world.everything() == before


def test_a_failed_purchase_does_not_expire_too() -> None:
    world = World().created()
    world.no_checkout(world.opened())

    decision = world.later(hours=48).tick()

    assert writes_nothing(decision)


def test_a_refund_takes_the_credits_off_once() -> None:
    world = World().created()
    purchase = world.paid()
    world.paid("another", pack="medium")
    before, row = world.merchant(), world.purchase(purchase)

    first = world.later(hours=1).refund()
    after = world.everything()
    again = world.later(hours=1).refund()

    assert first.reply == again.reply == Done()
    assert told(first) == [PurchaseRefunded(M1, purchase, 100, "9.99", "USD", "small")]
    assert writes_nothing(again)
    assert world.everything() == after
    assert world.merchant() == replace(
        before,
        total_credits_purchased=500,
        updated_at=NOW + timedelta(hours=1),
        version=before.version + 1,
        sequence=before.sequence + 1,
    )
    assert world.purchase(purchase) == replace(
        row,
        status=PurchaseStatus.REFUNDED,
        refunded_amount="9.99",
        refunded_credits=100,
        version=before.version + 1,
    )


@pytest.mark.parametrize("before", ["pending", "failed", "expired"])
def test_refund_before_its_payment_leaves_no_credits(
    before: str,
) -> None:
    world = World().created()
    purchase = world.charged()
    if before == "failed":
        world.webhook("declined")
    elif before == "expired":
        world.later(hours=25).tick()

    refund = world.refund()
    after = world.everything()
    late = world.webhook("ACTIVE")

    assert told(refund) == [
        CreditsPurchased(M1, purchase, 100, "9.99", Platform.SHOPIFY, "USD", "small"),
        PurchaseRefunded(M1, purchase, 100, "9.99", "USD", "small"),
    ]
    assert writes_nothing(late)
    assert world.everything() == after
    assert world.purchase(purchase).status == "refunded"
    assert world.purchase(purchase).completed_at == world.now
    assert world.merchant().total_credits_purchased == 0


@pytest.mark.parametrize("status", ["ACTIVE", "accepted", "declined", "pending"])
def test_a_refunded_purchase_stays_refunded(status: str) -> None:
    world = World().created()
    purchase = world.paid()
    world.refund()
    before = world.everything()

    decision = world.webhook(status)
    failed = world.no_checkout(purchase)

    assert writes_nothing(decision)
    assert writes_nothing(failed)
    assert world.everything() == before


def test_a_refund_of_one_purchase_leaves_the_others_paid() -> None:
    world = World().created()
    world.paid("a", pack="large")
    other = world.paid("b", pack="small")

    world.refund("a")

    assert world.merchant().total_credits_purchased == 100
    assert world.purchase(other).status == "completed"


def test_a_purchase_has_the_price_in_its_currency_and_keeps_it() -> None:
    packs = {"small": Pack(100, {"EUR": "8.99", "JPY": "1500", "KWD": "3.050"})}
    world = World(Policy(packs=packs, currency="EUR")).created()

    yen = world.do(ReservePurchase(M1, "small", Platform.STRIPE, command_id="y", currency="JPY"))
    usual = world.do(ReservePurchase(M1, "small", Platform.STRIPE, command_id="e"))
    none = world.do(ReservePurchase(M1, "small", Platform.STRIPE, command_id="u", currency="USD"))

    opened = [decision.purchases[0] for decision in (yen, usual)]
    assert [(p.currency, p.amount, p.pack) for p in opened] == [
        *(("JPY", "1500", "small"), ("EUR", "8.99", "small"))
    ]
    assert code_of(none) is ErrorCode.INVALID_PACK
    assert writes_nothing(none)


def test_a_key_with_another_currency_is_another_request() -> None:
    world = World(Policy(packs={"small": Pack(100, {"USD": "9.99", "JPY": "1500"})})).created()

    def reserve(currency: str | None) -> Decision:
        return world.do(
            ReservePurchase(M1, "small", Platform.STRIPE, "/", "key", "c", currency=currency)
        )

    first, again, other = reserve("JPY"), reserve("JPY"), reserve(None)

    assert again.reply == first.reply
    assert code_of(other) is ErrorCode.IDEMPOTENCY_KEY_REUSED


def test_a_test_charge_is_marked_on_purchase_and_events() -> None:
    world = World().created()
    purchase = world.opened()
    world.do(AttachCharge(M1, purchase, "charge", "https://pay.example", test=True))
    paid = world.webhook("active")
    back = world.do(RefundCharge(M1, "charge"))

    assert world.purchase(purchase).test
    assert told(paid) == [
        CreditsPurchased(M1, purchase, 100, "9.99", Platform.SHOPIFY, "USD", "small", test=True)
    ]
    assert told(back) == [PurchaseRefunded(M1, purchase, 100, "9.99", "USD", "small", test=True)]
