"""A changed rule gives its differences, and no others."""

from collections import Counter
from datetime import timedelta

import pytest
from msgspec.structs import replace

from billing_stream.audit.replay.replay import Scope
from billing_stream.domain import webhooks
from billing_stream.domain.commands import ReservePurchase, StartTrial
from billing_stream.domain.draft import Draft
from billing_stream.domain.ids import derived_id
from billing_stream.domain.model import Platform, Purchase, PurchaseStatus
from billing_stream.domain.outcomes import Done
from billing_stream.domain.policy import Pack
from billing_stream.records import topics as names
from tests.replaying.log import kinds, of, replayed, text
from tests.verify.traffic import open_purchase, paid, rich_world
from tests.verify.world import PARTITIONS, POLICY, TOPICS, TRIAL, World, merchant_id

COMMANDS = TOPICS.name(names.COMMANDS)
PURCHASED = names.event_type("credits.purchased")
M1 = merchant_id(1)


async def test_a_shorter_trial_ends_sooner_for_all_who_had_one() -> None:
    copy = (await rich_world()).copy()

    report = await replayed(copy, replace(POLICY, trial_duration=TRIAL - timedelta(hours=1)))

    assert kinds(report) == {
        ("event differs", names.event_type("trial.started"), "ends_at"),
        ("event differs", names.event_type("trial.ending"), "ends_at"),
        ("event differs", names.event_type("trial.expired"), "expired_at"),
        ("row differs", names.BILLING_RECORDS, "trial_ends_at"),
        ("row differs", names.IDEMPOTENCY_KEYS, "reply"),
    }
    trials, reminders = copy.events("trial.started"), copy.events("trial.ending")
    found = Counter(one.type for one in of(report, "event differs", "ends_at"))
    assert found[names.event_type("trial.started")] == len(trials) > 5
    assert found[names.event_type("trial.ending")] == len(reminders) > 5
    assert len(report.differing) == len(trials)
    assert report.unproved == []


async def test_other_credits_in_a_pack_are_seen_wherever_they_count() -> None:
    copy = (await rich_world()).copy()
    packs = {**POLICY.packs, "small": Pack(120, {"USD": "9.99"})}

    report = await replayed(copy, replace(POLICY, packs=packs))

    granted = of(report, "event differs", "credits")
    assert {found.type for found in granted} == {PURCHASED}
    assert {(found.recorded, found.replayed) for found in granted} == {(100, 120)}
    assert {found[1:] for found in kinds(report)} == {
        (PURCHASED, "credits"),
        (names.BILLING_RECORDS, "total_credits_purchased"),
        (names.CREDIT_PURCHASES, "credits"),
        (names.IDEMPOTENCY_KEYS, "reply"),
    }


async def test_a_refund_that_is_forgotten_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    copy = (await rich_world()).copy()
    monkeypatch.setattr(webhooks, "refund", lambda draft, command: Done())

    report = await replayed(copy)

    refunds = copy.events("purchase.refunded")
    missing = of(report, "event missing")
    assert len(missing) == len(refunds) == 16
    assert {found.type for found in missing} == {names.event_type("purchase.refunded")}
    totals = of(report, "row differs", "total_credits_purchased")
    assert {found.replayed - found.recorded for found in totals} == {500}
    # Counters follow from what is missing, and would only hide it.
    assert not {found.field for found in report.differences} & {"sequence", "version"}


async def test_a_payment_that_is_honoured_no_longer_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = await World().restart()
    created = {"merchant_id": M1, "platform_name": "shopify", "domain": "one.example"}
    world.send(names.MERCHANT_CREATED, created)
    await world.feed_all()
    purchase = await open_purchase(world, M1, "late")
    world.pass_time(hours=3)
    await world.tick()
    world.send(names.PURCHASE_UPDATED, paid(M1, "late"))
    await world.feed_all()
    complete = webhooks.complete

    def strict(draft: Draft, bought: Purchase) -> None:
        if bought.status is PurchaseStatus.PENDING:
            complete(draft, bought)

    monkeypatch.setattr(webhooks, "complete", strict)
    report = await replayed(world.copy())

    (missing,) = of(report, "event missing")
    assert (missing.type, missing.recorded["purchase_id"]) == (PURCHASED, purchase)
    assert missing.cause == f"{TOPICS.name(names.PURCHASE_UPDATED)}[{_partition(world)}]@0"
    (status,) = of(report, "row differs", "status")
    assert (status.recorded, status.replayed) == ("completed", "expired")


def _partition(world: World) -> int:
    topic = TOPICS.name(names.PURCHASE_UPDATED)
    return next(p for p in range(PARTITIONS) if world.log.topics.get((topic, p)))


async def test_a_rule_for_early_webhooks_is_not_hidden_by_another_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Taken in another order, an early webhook would be a usual one, and nothing would differ."""
    world = await World().restart()
    created = {"merchant_id": M1, "platform_name": "shopify", "domain": "one.example"}
    world.send(names.MERCHANT_CREATED, created)
    await world.feed_all()
    reserved = world.command(M1, "reserve_purchase", pack="small", platform="shopify")
    await world.feed_all()
    world.send(names.PURCHASE_UPDATED, paid(M1, "early"))
    await world.feed_all()
    purchase = derived_id("purchase", M1, reserved)
    attach = {"purchase_id": purchase, "charge_id": "early", "checkout_url": "https://pay.example"}
    world.command(M1, "attach_charge", **attach)
    await world.feed_all()
    monkeypatch.setattr(Draft, "park", lambda draft, parked: None)

    report = await replayed(world.copy())

    (missing,) = of(report, "event missing")
    assert missing.type == PURCHASED


async def test_a_refusal_that_is_new_and_one_that_is_gone_are_dead_letters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copy = (await rich_world()).copy()
    packs = {"huge": Pack(5000, {"USD": "1.00"}), **POLICY.packs}
    del packs["large"]

    report = await replayed(copy, replace(POLICY, packs=packs))

    gone = of(report, "dead letter missing")
    assert [str(found.recorded).partition(":")[0] for found in gone] == ["INVALID_PACK"]
    # Large ones were bought over HTTP: refused, they would be in no journal.
    extra = [found for found in report.differences if found.kind == "row missing"]
    assert {found.recorded["credits"] for found in extra if "amount" in found.recorded} == {1000}


async def test_what_was_written_by_someone_else_is_a_difference() -> None:
    copy = (await rich_world()).copy()
    first = copy.events("trial.started")[0]
    copy.add(first)
    changed = copy.events("credits.purchased")[0]
    changed.put({**changed.data, "data": {**changed.data["data"], "credits": 101}})
    copy.drop(copy.events("purchase.failed")[0])

    report = await replayed(copy)

    (doubled,) = [found for found in report.differences if found.field == "recorded more than once"]
    assert doubled.subject == first.data["event_id"]
    (other,) = of(report, "event differs", "credits")
    assert (other.recorded, other.replayed) == (101, 100)
    (extra,) = of(report, "event extra")
    assert extra.type == names.event_type("purchase.failed")


async def test_only_what_is_asked_for_is_reported() -> None:
    world = await World().restart()
    merchants = [merchant_id(number) for number in range(1, 7)]
    for number, merchant in enumerate(merchants):
        created = {"merchant_id": merchant, "platform_name": "shopify", "domain": f"s{number}.x"}
        world.send(names.MERCHANT_CREATED, created)
    await world.feed_all()
    for merchant in merchants[:2]:
        world.command(merchant, "start_trial")
    await world.feed_all()
    for merchant in merchants[2:5]:
        await world.ask(StartTrial(merchant, None, f"trial/{merchant}"))
    world.pass_time(hours=2)
    middle = world.now
    await world.ask(StartTrial(merchants[5], None, "trial/last"))
    copy, partitions = world.copy(), range(PARTITIONS)
    policy = replace(POLICY, trial_duration=TRIAL - timedelta(hours=1))

    async def started(scope: Scope) -> list[str]:
        report = await replayed(copy, policy, scope)
        assert kinds(report) >= {("row differs", names.BILLING_RECORDS, "trial_ends_at")}
        return sorted(d.merchant_id for d in of(report, "event differs", "ends_at"))

    assert await started(Scope(partitions)) == merchants
    assert await started(Scope(partitions, [TOPICS.name(names.COMMANDS)])) == merchants[:2]
    assert await started(Scope(partitions, [TOPICS.name(names.JOURNAL)])) == merchants[2:]
    assert await started(Scope(partitions, since=middle)) == merchants[5:]
    assert await started(Scope(partitions, merchant=merchants[3])) == [merchants[3]]
    of_parts = [await started(Scope([partition])) for partition in partitions]
    assert sorted(one for part in of_parts for one in part) == merchants
    assert all(of_parts)


async def test_a_command_that_changed_nothing_leaves_no_trace_and_no_difference() -> None:
    world = await World().restart()
    asked = ReservePurchase(M1, "small", Platform.SHOPIFY, "/", None, "nobody")
    await world.ask(asked)
    world.send(names.PURCHASE_UPDATED, paid(M1, "x", "PENDING"))
    await world.feed_all()

    report = await replayed(world.copy())

    assert not report.differences, text(report)


async def test_the_written_order_is_that_of_other_rules_too() -> None:
    """All topics lag behind each other, so that many orders are possible under another rule."""
    world = await World().restart()
    created = {"merchant_id": M1, "platform_name": "shopify", "domain": "one.example"}
    world.send(names.MERCHANT_CREATED, created)
    reserved = []
    for _ in range(6):
        world.pass_time(milliseconds=1)
        world.command(M1, "create_merchant", platform="shopify", domain="one.example")
        reserved.append(world.command(M1, "reserve_purchase", pack="small", platform="shopify"))
    for number, ref in enumerate(reserved):
        world.pass_time(milliseconds=1)
        world.send(names.PURCHASE_UPDATED, paid(M1, f"c{number}"))
        purchase = derived_id("purchase", M1, ref)
        attach = {"purchase_id": purchase, "charge_id": f"c{number}", "checkout_url": "https://x"}
        world.command(M1, "attach_charge", **attach)
        world.send(names.PURCHASE_REFUNDED, {"merchant_id": M1, "charge_id": f"c{number}"})
    while unread := world.unread():
        for key, start in reversed(unread):
            await world.feed(key, start, 3)
    copy = world.copy()
    packs = replace(POLICY, packs={**POLICY.packs, "small": Pack(120, {"USD": "9.99"})})

    first, outcome = await replayed(copy), await replayed(copy, packs)

    assert first.differences == []
    assert first.unproved == outcome.unproved == []
    assert {d.field for d in outcome.differences if d.kind == "event differs"} == {"credits"}
    assert len([d for d in outcome.differences if d.kind == "event differs"]) == 12
    assert {d.field for d in outcome.differences if d.kind != "event differs"} <= {
        "credits",
        "refunded_credits",
        "total_credits_purchased",
    }
