"""Of a log that real lanes wrote, whatever came in whatever order, no fault is reported."""

import asyncio
from datetime import datetime, timedelta, timezone
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing_stream.audit.verify.verify_report import Report
from billing_stream.domain.commands import (
    AdjustCredits,
    AdvanceClock,
    AttachCharge,
    FailPurchase,
    ForgetMerchant,
    ReservePurchase,
    StartTrial,
)
from billing_stream.domain.ids import derived_id
from billing_stream.domain.model import Platform
from billing_stream.domain.outcomes import PurchaseOpened
from billing_stream.records import topics as names
from tests.verify.imports import any_import
from tests.verify.traffic import PAGE, paid, rich_world
from tests.verify.world import Stored, World, merchant_id

PACKS = ("small", "medium", "large", "huge")
INSTALLED = (
    "2025-12-30T00:00:00Z",
    "2025-12-31T12:00:00",
    "2026-01-01T02:00:00+02:00",
    "2030-01-01T00:00:00Z",
    "soon",
)
STATUSES = ("ACTIVE", "accepted", "PENDING", "declined", "FROZEN")
AMOUNTS = (None, "1", "9.99", 5, 39.99, "0", "0.50")


def text(report: Report) -> str:
    return "\n".join(report.lines())


async def test_rich_traffic() -> None:
    world = await rich_world()

    report = await world.copy().verify()

    assert report.ok, text(report)
    counted = {name: check.counted for name, check in report.checks.items()}
    idle = {"projection", "shop-trials"}
    assert {name for name, count in counted.items() if not count} == idle, counted
    assert not [note for note in report.notes if "orders" in note]


async def test_compacted_changelogs() -> None:
    copy = (await rich_world()).copy()
    copy.compact()

    report = await copy.verify()

    assert report.ok, text(report)


async def test_while_workers_run_only_what_they_have_read_is_judged() -> None:
    world = await rich_world()
    merchant = merchant_id(1)
    changelogs = {
        key: list(log) for key, log in world.copy().logs.items() if key[0].endswith("changelog")
    }
    world.send(names.PURCHASE_UPDATED, paid(merchant, "c1-2"))
    world.send(names.PURCHASE_UPDATED, b"bad", merchant=merchant)
    await world.feed_all()
    await world.ask(StartTrial(merchant, "again", "late"))
    copy = world.copy()
    # The first changelog is read before the rest: what is later is seen there alone.
    copy.logs.update({k: v for k, v in changelogs.items() if "billing_records" in k[0]})

    lagging, quiet = await copy.verify(allow_lag=True), await copy.verify()

    assert lagging.ok, text(lagging)
    assert {"positions", "outcomes", "sequences"} <= quiet.faults()


async def test_one_merchant_and_its_history() -> None:
    world = await rich_world()

    report = await world.copy().verify(merchant=merchant_id(1).upper())

    assert report.ok, text(report)
    history = "\n".join(report.history)
    assert "create" in history
    assert "trial.started" in history
    assert "version" in history


class Driver:
    """Draws what happens next."""

    def __init__(self, data: Any) -> None:
        self.data = data
        self.purchases: dict[str, list[str]] = {}
        self.number = 0
        # The first changelog as it was at some moment before the end.
        self.cut: dict[tuple[str, int], list[Stored]] = {}

    def one_of(self, *values: Any) -> Any:
        return self.data.draw(st.sampled_from(values))

    async def run(self, world: World) -> None:
        count = self.data.draw(st.integers(5, 40))
        cut = self.data.draw(st.integers(0, count - 1))
        for number in range(count):
            if number == cut:
                changelog = f"x.app-{names.BILLING_RECORDS}-changelog"
                logs = world.copy().logs
                self.cut = {(changelog, p): logs.get((changelog, p), []) for p in (0, 1)}
            await self.step(world)
        await world.feed_all()

    async def step(self, world: World) -> None:
        kind = self.one_of("send", "send", "send", "feed", "feed", "ask", "time", "tick", "restart")
        if kind == "send":
            self.send(world)
        elif kind == "feed":
            unread = world.unread()
            if unread:
                key, start = self.one_of(*unread)
                await world.feed(key, start, self.one_of(1, 2, 100))
        elif kind == "ask":
            await self.ask(world)
        elif kind == "time":
            world.pass_time(minutes=self.one_of(0.001, 1, 30, 121, 301, 1500))
        elif kind == "tick":
            await world.tick()
        else:
            await world.stop()
            await world.restart()

    def send(self, world: World) -> None:
        merchant = merchant_id(self.one_of(1, 1, 1, 2, 3))
        charge = self.one_of("c1", "c2", "c3")
        wrong = self.one_of(False, False, False, True)
        topic = self.one_of(names.MERCHANT_CREATED, *names.INPUTS[:4])
        if topic == names.MERCHANT_CREATED:
            domain = self.one_of("a.example", "https://A.example/", "b.example", "b@example", None)
            platform = self.one_of(*["shopify"] * 6, " Shopify", "Shopify Plus", None)
            value = {"merchant_id": merchant, "platform_name": platform, "domain": domain}
            value |= {"platform_shop_id": self.one_of(None, 7, "7", "8", " ", [])}
            value |= {"installed_at": self.one_of(None, *INSTALLED)}
        elif topic == names.PURCHASE_UPDATED:
            value = paid(merchant, charge, self.one_of(*STATUSES))
        elif topic == names.PURCHASE_REFUNDED:
            value = {"merchant_id": merchant, "charge_id": charge, "amount": self.one_of(*AMOUNTS)}
            if self.one_of(True, False):
                value["purchase_id"] = self.purchase(merchant)
        else:
            value = self.command(world, merchant, charge)
        if self.one_of(*[False] * 9, True):
            value = self.one_of(b"{", {**value, "merchant_id": 1}, {"data": None}, None)
        headers = {}
        if topic == names.COMMANDS and self.one_of(*[False] * 3, True):
            # A copy of a dead letter, and perhaps not the only one.
            headers["billing-redriven-from"] = self.one_of("dlq[0]@1", "dlq[0]@2")
        world.send(topic, value, merchant=merchant, wrong=wrong, **headers)

    def purchase(self, merchant: str) -> str:
        return str(self.one_of(*(self.purchases.get(merchant) or [merchant])))

    def command(self, world: World, merchant: str, charge: str) -> dict[str, Any]:
        name = self.one_of(
            "create_merchant",
            "start_trial",
            "reserve_purchase",
            "attach_charge",
            "fail_purchase",
            "adjust_credits",
            "forget_merchant",
            "move_clock",
            "import_merchant",
        )
        value = {"command": name, "merchant_id": merchant}
        if name == "create_merchant":
            at = self.one_of(None, *INSTALLED)
            installed = {"platform_shop_id": self.one_of(None, "7", "8"), "installed_at": at}
            return {**value, **installed, "platform": "shopify", "domain": "a.example"}
        if name == "forget_merchant":
            return value
        if name == "import_merchant":
            found = any_import(self.one_of, merchant)
            brought = [purchase["id"] for purchase in found["purchases"]]
            self.purchases.setdefault(merchant, []).extend(brought)
            return {**value, **found}
        if name == "move_clock":
            return {**value, "to": self.moment(world)}
        if name == "adjust_credits":
            credits, reason = self.one_of(10, -10, -150, 0, True, 1.0), self.one_of("a", "b", "")
            key = self.one_of("k1", "k2", "k3", "k3", None)
            return {**value, "credits": credits, "reason": reason, "idempotency_key": key}
        if name == "start_trial":
            return {**value, "idempotency_key": self.one_of(None, "k1", "k2")}
        if name == "attach_charge":
            purchase = self.purchase(merchant)
            return {
                **value,
                "purchase_id": purchase,
                "charge_id": charge,
                "checkout_url": PAGE,
            }
        if name == "fail_purchase":
            return {**value, "purchase_id": self.purchase(merchant), "reason": "Down"}
        ref = world.copy().logs
        for partition in (0, 1):
            # Where it may come to stand: known beforehand, refunds can overtake it.
            topic = f"x.{names.COMMANDS}"
            end = len(ref.get((topic, partition), ()))
            known = derived_id("purchase", merchant, f"{topic}[{partition}]@{end}")
            self.purchases.setdefault(merchant, []).append(known)
        key = self.one_of(None, "k1", "k2")
        return {
            **value,
            "pack": self.one_of(*PACKS),
            "platform": "stripe",
            "idempotency_key": key,
        }

    def moment(self, world: World) -> str:
        hours = self.one_of(-1, 0, 1, 3, 7, 24 * 3700)
        moment = world.now.astimezone(timezone(timedelta(hours=self.one_of(0, 9, -3))))
        return (moment + timedelta(hours=hours)).isoformat()

    async def ask(self, world: World) -> None:
        merchant = merchant_id(self.one_of(1, 1, 2))
        self.number += 1
        source, key = f"req-{self.number}", self.one_of(None, "k1", "k2")
        kind = self.one_of(
            "trial", "reserve", "reserve", "attach", "attach", "fail", "adjust", "clock", "forget"
        )
        if kind == "trial":
            await world.ask(StartTrial(merchant, key, source))
        elif kind == "reserve":
            pack = self.one_of(*PACKS)
            reply = await world.ask(
                ReservePurchase(merchant, pack, Platform.SHOPIFY, "/", key, source)
            )
            if isinstance(reply, PurchaseOpened):
                self.purchases.setdefault(merchant, []).append(reply.purchase_id)
        elif kind == "adjust":
            credits = self.one_of(10, -10, -150)
            key = self.one_of("k1", "k2", "k3")
            adjust = AdjustCredits(merchant, credits, "a", key, source)
            await world.ask(adjust, "operator:olga")
        elif kind == "clock":
            to = datetime.fromisoformat(self.moment(world))
            await world.ask(AdvanceClock(merchant, to, source), "operator:olga")
        elif kind == "forget":
            await world.ask(ForgetMerchant(merchant, source), "cli")
        elif kind == "attach":
            charge = self.one_of("c1", "c2", "c3")
            await world.ask(AttachCharge(merchant, self.purchase(merchant), charge, PAGE, source))
        else:
            await world.ask(FailPurchase(merchant, self.purchase(merchant), "Down", source))


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
@given(st.data())
def test_whatever_comes_in_whatever_order(data: st.DataObject) -> None:
    async def run() -> tuple[Report, Report, Report]:
        world = await World().restart()
        driver = Driver(data)
        await driver.run(world)
        copy = world.copy()
        await world.stop()
        quiet = await copy.verify()
        copy.logs.update(driver.cut)
        lagging = await copy.verify(allow_lag=True)
        compacted = world.copy()
        compacted.compact()
        return quiet, lagging, await compacted.verify()

    for report in asyncio.run(run()):
        assert report.ok, text(report)
        assert not [note for note in report.notes if "orders" in note]
