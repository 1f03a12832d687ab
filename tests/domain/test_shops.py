"""Rules of shops: which merchant has one, and which claims of others count."""

from datetime import UTC, datetime, timedelta

import pytest

from billing_stream.domain.commands import CreateMerchant, ForgetMerchant
from billing_stream.domain.outcomes import Done, ShopRegistered, Superseded
from billing_stream.domain.shops import NOBODYS, Claim, Shop, claim, state_again
from tests.support.world import M1, M2, NOW, World, writes_nothing

T0, T1, T2 = (datetime(2025, 1, day, tzinfo=UTC) for day in (1, 2, 3))


def said(
    merchant: str, shop_id: str | None = None, at: datetime | None = None, **more: bool
) -> ShopRegistered:
    return ShopRegistered(
        "shopify", "a.example", merchant, platform_shop_id=shop_id, installed_at=at, **more
    )


def install(world: World, domain: str, at: datetime | None, shop_id: str | None = None) -> object:
    command = CreateMerchant(M1, "shopify", f"{domain}.example", "c", shop_id, at)
    return world.later(hours=1).do(command)


# -- of one merchant


def test_older_installation_of_a_merchant_changes_nothing() -> None:
    world = World()
    install(world, "a", T0)
    install(world, "b", T1)
    before = world.everything()

    decision = world.do(CreateMerchant(M1, "shopify", "a.example", "c", None, T0))

    assert decision.reply == Superseded()
    assert writes_nothing(decision)
    assert world.everything() == before
    assert world.merchant().domain == "b.example"


@pytest.mark.parametrize("at", [T1, T2, None])
def test_rename_by_the_same_a_newer_or_an_unknown_installation_counts(at: datetime | None) -> None:
    world = World()
    install(world, "a", T1, "7")

    decision = world.do(CreateMerchant(M1, "shopify", "b.example", "c", "7", at))

    assert decision.shops == (
        ShopRegistered("shopify", "b.example", M1, platform_shop_id="7", installed_at=at),
    )
    assert world.merchant().installed_at == (at or T1)


def test_same_shop_installed_again_is_claimed_again() -> None:
    world = World()
    install(world, "a", T1, "7")

    decision = world.do(CreateMerchant(M1, "shopify", "a.example", "c", None, T2))

    assert decision.shops == (said(M1, None, T2),)
    assert (world.merchant().platform_shop_id, world.merchant().installed_at) == ("7", T2)


@pytest.mark.parametrize(("shop_id", "at"), [("7", None), (None, T1), ("7", T1)])
def test_known_shop_that_is_only_known_better_claims_nothing(
    shop_id: str | None, at: datetime | None
) -> None:
    world = World()
    install(world, "a", None)

    decision = world.do(CreateMerchant(M1, "shopify", "a.example", "c", shop_id, at))

    assert decision.shops == (said(M1, shop_id, at, again=True),)


def test_installation_to_come_is_of_an_unknown_time() -> None:
    world = World()
    install(world, "a", T1)

    install(world, "b", NOW + timedelta(days=400))

    assert (world.merchant().domain, world.merchant().installed_at) == ("b.example", T1)


@pytest.mark.parametrize("at", [T0, T1])
def test_erased_merchant_does_not_come_back_by_what_was_told_before(at: datetime) -> None:
    world = World()
    install(world, "a", T1, "7")
    world.do(ForgetMerchant(M1, "f"))
    assert world.merchant().platform_shop_id is None

    decision = world.do(CreateMerchant(M1, "shopify", "a.example", "c", "7", at))

    assert decision.reply == Superseded()
    assert world.merchant().domain == ""


def test_merchant_erased_by_an_older_release_stays_erased() -> None:
    world = World().created()
    world.do(ForgetMerchant(M1, "f"))

    late = world.do(CreateMerchant(M1, "shopify", "1111.example", "c", "7", T1))
    new = world.later(days=1).do(CreateMerchant(M1, "shopify", "a.example", "c", "7", world.now))

    assert (late.reply, new.reply) == (Superseded(), Done())
    assert world.merchant().domain == "a.example"


# -- of several merchants


@pytest.mark.parametrize(
    ("known", "told", "outcome"),
    [
        (NOBODYS, said(M2, "7", T1), None),
        (Shop(M1, "7", T0), said(M2, "7", T1), Claim.REINSTALLED),
        (Shop(M1, "7", T1), said(M2, "7", T1), Claim.REINSTALLED),
        (Shop(M1, "7", T0, uninstalled=True), said(M2, "8", T1), Claim.REINSTALLED),
        (Shop(M1, None, T0), said(M2, "8", T1), Claim.REPLACED),
        (Shop(M1, "7", T0), said(M2, None, T1), Claim.REPLACED),
        (Shop(M1), said(M2), Claim.REPLACED),
        (Shop(None, None, T0), said(M2, None, None), None),
    ],
)
def test_claim_that_counts_gives_the_shop_to_its_merchant(
    known: Shop, told: ShopRegistered, outcome: Claim | None
) -> None:
    shop, found = claim(known, told)

    assert found is outcome
    newest = told.installed_at or known.installed_at
    assert shop == Shop(M2, told.platform_shop_id, newest)


@pytest.mark.parametrize(
    ("known", "told", "outcome"),
    [
        (Shop(M1, "7", T0), said(M2, "8", T1), Claim.TAKEN),
        (Shop(M1, "7"), said(M2, "8"), Claim.TAKEN),
        (Shop(M1, "7", T1), said(M2, "7", T0), Claim.OLDER),
        (Shop(M1, "7", T1), said(M2, "8", T0), Claim.OLDER),
        (Shop(M1, None, T1), said(M2, None, T0), Claim.OLDER),
        (Shop(M1, "7", T1, uninstalled=True), said(M2, "7", T0), Claim.OLDER),
        (Shop(None, None, T1), said(M2, "7", T0), Claim.OLDER),
        (Shop(M1, "7", T0), said(M2, "7", T1, gone=True), None),
        (Shop(M1, "7", T0), said(M2, "7", T1, uninstalled=True), None),
        (Shop(M1, "7", T0), said(M2, "7", T1, again=True), None),
        (NOBODYS, said(M2, "7", T1, again=True), None),
    ],
)
def test_claim_that_does_not_count_leaves_the_shop(
    known: Shop, told: ShopRegistered, outcome: Claim | None
) -> None:
    assert claim(known, told) == (known, outcome)


def test_merchant_that_left_leaves_only_the_time_of_its_installation() -> None:
    assert claim(Shop(M1, "7", T1), said(M1, gone=True)) == (Shop(None, None, T1), None)
    assert claim(Shop(M1, "7"), said(M1, gone=True)) == (NOBODYS, None)


def test_uninstalled_shop_that_is_installed_again_is_live() -> None:
    left, _ = claim(Shop(M1, "7", T0), said(M1, uninstalled=True))
    back, _ = claim(left, said(M1, None, T1))

    assert left == Shop(M1, "7", T0, uninstalled=True)
    assert back == Shop(M1, "7", T1)


@pytest.mark.parametrize("shop", [NOBODYS, Shop(M1, "7", T1), Shop(M1), Shop(M1, uninstalled=True)])
@pytest.mark.parametrize(
    "told",
    [said(M1), said(M1, "7", T1), said(M1, gone=True), said(M2, "8", T2), said(M2, again=True)],
)
def test_last_record_of_a_shop_comes_to_be_its_row(shop: Shop, told: ShopRegistered) -> None:
    known, _ = claim(shop, told)
    written = state_again(known, told)

    if written is not None:
        after, outcome = claim(known, written)
        assert (after, outcome) == (known, None), "what is repeated changes nothing"
        assert state_again(after, written) is None
    last = written or told
    assert (None if last.gone else last.merchant_id) == known.merchant_id
