"""Verify proves the order that lanes wrote, and states of how many records none is written."""

from collections.abc import Callable
from typing import Any

import pytest

from billing_stream.domain.commands import StartTrial
from billing_stream.engine.record_order import StagedOrder
from billing_stream.records import topics as names
from tests.replaying.log import replayed, text
from tests.verify.traffic import open_purchase, paid, rich_world
from tests.verify.world import TOPICS, Copy, World, merchant_id

M1, M2 = merchant_id(1), merchant_id(2)
NOT_PROVED = "is not proved"
Seed = Callable[[Copy], object]


class Older:
    """A worker of a release that writes no order, while a `with` lasts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def __enter__(self) -> None:
        self._monkeypatch.setattr(StagedOrder, "note", lambda *_, **__: None)

    def __exit__(self, *_: object) -> None:
        self._monkeypatch.undo()


def of_order(copy: Copy, several: bool = False) -> Any:
    """An order in the middle, of one range or of several."""
    found = [order for order in copy.orders() if (len(order.data["ranges"]) > 1) is several]
    return found[len(found) // 2]


def put(record: Any, **fields: Any) -> None:
    record.put({**record.data, **fields})


async def mixed() -> World:
    """Transactions that take from several topics, and requests among them."""
    world = await World().restart()
    for number, merchant in enumerate((M1, M2)):
        created = {"merchant_id": merchant, "platform_name": "shopify", "domain": f"s{number}.x"}
        world.send(names.MERCHANT_CREATED, created)
    await world.feed_all()
    for count in range(6):
        for merchant in (M1, M2):
            await open_purchase(world, merchant, f"{merchant}-{count}")
            world.send(names.PURCHASE_UPDATED, paid(merchant, f"{merchant}-{count}"))
            world.send(names.PURCHASE_REFUNDED, refund(merchant, count))
            world.command(merchant, "start_trial")
        await at_once(world)
        world.send(names.PURCHASE_UPDATED, paid(M1, f"{M1}-{count}", "declined"))
        await world.feed_all()
    return world


def refund(merchant: str, count: int) -> dict[str, Any]:
    return {"merchant_id": merchant, "charge_id": f"{merchant}-{count}", "amount": "1"}


async def at_once(world: World) -> None:
    """Have one transaction of each partition take all that is unread, the last topic first."""
    for key, start in reversed(world.unread()):
        world.lanes[key[1]].put(world._batch(key, start, 1000))
    await world.idle()


async def test_order_of_mixed_transactions_is_proved() -> None:
    copy = (await mixed()).copy()

    report = await copy.verify()

    assert report.ok, "\n".join(report.lines())
    assert not [note for note in report.notes if NOT_PROVED in note]
    assert len([order for order in copy.orders() if len(order.data["ranges"]) > 1]) > 5
    assert report.checks["order"].counted == 2


def order_lost(copy: Copy) -> None:
    copy.drop(of_order(copy))


def last_order_lost(copy: Copy) -> None:
    copy.drop(copy.orders()[-1])


def first_order_lost(copy: Copy) -> None:
    copy.drop(copy.orders()[0])


def range_lost(copy: Copy) -> None:
    order = of_order(copy, several=True)
    put(order, ranges=order.data["ranges"][1:])


def last_range_lost(copy: Copy) -> None:
    order = [order for order in copy.orders() if len(order.data["ranges"]) > 1][-1]
    put(order, ranges=order.data["ranges"][:-1])


def range_doubled(copy: Copy) -> None:
    order = of_order(copy, several=True)
    put(order, ranges=[*order.data["ranges"], order.data["ranges"][0]])


def range_too_short(copy: Copy) -> None:
    order = of_order(copy)
    (one,) = order.data["ranges"]
    put(order, ranges=[{**one, "to": one["to"] - 1}])


def ranges_swapped(copy: Copy) -> None:
    for order in copy.orders():
        put(order, ranges=order.data["ranges"][::-1])


def number_wrong(copy: Copy) -> None:
    order = of_order(copy)
    put(order, number=order.data["number"] + 1)


def orders_exchanged(copy: Copy) -> None:
    first, second = of_order(copy), of_order(copy, several=True)
    first.value, second.value = second.value, first.value


def positions_of_an_entry_wrong(copy: Copy) -> None:
    entry = copy.entries()[-1]
    positions = entry.data["positions"]
    topic = next(iter(positions))
    put(entry, positions={**positions, topic: positions[topic] - 1})


def positions_of_an_entry_go_back(copy: Copy) -> None:
    for number, entry in enumerate(copy.entries()):
        positions = entry.data["positions"]
        put(entry, positions={name: position + 9 - number for name, position in positions.items()})


def mark_of_another_order(copy: Copy) -> None:
    log = copy.of(TOPICS.changelog(names.BILLING_RECORDS))
    mark = [record for record in log if record.key == b"\0order"][-1]
    put(mark, number=mark.data["number"] + 1)


FAULTS: list[Seed] = [
    order_lost,
    last_order_lost,
    first_order_lost,
    range_lost,
    last_range_lost,
    range_doubled,
    range_too_short,
    ranges_swapped,
    number_wrong,
    orders_exchanged,
    positions_of_an_entry_wrong,
    positions_of_an_entry_go_back,
    mark_of_another_order,
]


@pytest.mark.parametrize("seed", FAULTS, ids=[seed.__name__ for seed in FAULTS])
async def test_wrong_order_is_named(seed: Seed) -> None:
    copy = (await mixed()).copy()

    seed(copy)
    report = await copy.verify()

    assert "order" in report.faults(), "\n".join(report.lines())
    assert any(fault.topic or fault.merchant for fault in report.checks["order"].examples)


async def test_log_that_begins_old_continues_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    with Older(monkeypatch):
        world = await mixed()
        old = world.copy()
    await world.restart()
    new = merchant_id(3)
    world.send(
        names.MERCHANT_CREATED, {"merchant_id": new, "platform_name": "shopify", "domain": "n.x"}
    )
    world.send(names.PURCHASE_UPDATED, paid(new, "early"))
    await at_once(world)
    await world.ask(StartTrial(new, None, "trial/new"))
    await world.feed_all()

    before, after = await old.verify(), await world.copy().verify()

    for report in (before, after):
        assert report.ok, "\n".join(report.lines())
        (note,) = [note for note in report.notes if NOT_PROVED in note]
        assert note.startswith("the order of 42 records")
        assert note.endswith("for their 2 merchants")
    again = await replayed(world.copy())
    assert again.unproved == [M1, M2]
    assert again.unproved_records == 42
    assert new not in again.differing
    assert "42 records of 2 merchants have no written order" in text(again)


async def test_workers_of_two_releases_may_own_a_partition_in_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = await mixed()
    for turn in range(3):
        with Older(monkeypatch):
            await world.restart()
            world.send(names.PURCHASE_UPDATED, paid(M1, f"old-{turn}"))
            await at_once(world)
            await world.ask(StartTrial(M2, f"old-{turn}", f"old-{turn}"))
        await world.restart()
        world.send(names.PURCHASE_UPDATED, paid(M1, f"new-{turn}"))
        await at_once(world)
    copies = [world.copy()]
    with Older(monkeypatch):
        await world.restart()
        world.send(names.PURCHASE_UPDATED, paid(M1, "last"))
        await at_once(world)
    copies.append(world.copy())

    for copy in copies:
        report = await copy.verify()
        assert report.ok, "\n".join(report.lines())
        # One topic between two orders needs no other proof than its own offsets.
        assert not [note for note in report.notes if NOT_PROVED in note]
        again = await replayed(copy)
        assert not again.differences, text(again)


async def test_order_lost_where_a_release_without_order_begins_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = await mixed()
    with Older(monkeypatch):
        await world.restart()
        world.send(names.PURCHASE_UPDATED, paid(M1, "old"))
        await at_once(world)
    await world.restart()
    world.send(names.PURCHASE_UPDATED, paid(M1, "new"))
    await at_once(world)
    copy = world.copy()
    partition = copy.orders()[-1].partition

    copy.drop([order for order in copy.orders() if order.partition == partition][-2])

    assert "order" in (await copy.verify()).faults()


async def test_rich_log_of_an_older_release_has_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    with Older(monkeypatch):
        copy = (await rich_world()).copy()

    report, again = await copy.verify(), await replayed(copy)

    assert report.ok, "\n".join(report.lines())
    assert report.checks["order"].counted
    assert set(again.differing) <= set(again.unproved), text(again)
