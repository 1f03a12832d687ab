"""Shops change hands on purpose only: records through lanes in memory, then verified."""

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
import pytest_asyncio

from billing_stream.domain.shops import Shop
from billing_stream.engine.partition_processor import Outgoing
from billing_stream.engine.partitioner import partition_of
from billing_stream.records import topics as names
from billing_stream.records.forwarding import FORWARDED_TOPIC, REDRIVEN_FROM
from billing_stream.tables.shops import erased_key
from tests.verify.world import PARTITIONS, TOPICS, Copy, Stored, World, merchant_id

A, B, C = (merchant_id(number) for number in (1, 2, 3))
SHOP = "shopify:a.example"
T1, T2, T3, T4 = (f"2025-12-0{day}T00:00:00Z" for day in (1, 2, 3, 4))


class Scene:
    """Two merchants, and shops that both may claim."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def install(self, merchant: str, domain: str = "a", **said: Any) -> None:
        """`evt.merchant.created.v1` is published, and all that comes of it is done."""
        shop = {"platform_name": "shopify", "domain": f"{domain}.example"}
        self.world.send(names.MERCHANT_CREATED, {"merchant_id": merchant, **shop, **said})
        await self.world.feed_all()

    async def command(self, merchant: str, name: str, **fields: Any) -> None:
        """A command of the topic of commands."""
        self.world.command(merchant, name, **fields)
        await self.world.feed_all()

    def row(self, shop: str = SHOP) -> Shop | None:
        """The row of a shop, or of one that was erased."""
        rows = [lane.processor.rows.shops for lane in self.world.lanes.values()]
        return next((found[shop] for found in rows if shop in found), None)

    @property
    def owner(self) -> str | None:
        """Who has the shop that all claim."""
        row = self.row()
        return row.merchant_id if row else None

    async def finished(self) -> Copy:
        """The log of all of it, which the verifier finds without a fault."""
        await self.world.stop()
        copy = self.world.copy()
        report = await copy.verify()
        assert report.ok, "\n".join(report.lines())
        return copy


def reasons(copy: Copy) -> list[str]:
    return [letter.data["reason"] for letter in copy.of(TOPICS.name(names.DEAD_LETTERS))]


@pytest_asyncio.fixture
async def scene() -> Scene:
    return Scene(await World().restart())


async def test_first_record_told_again_takes_no_shop_from_its_present_owner(scene: Scene) -> None:
    await scene.install(A, "a", installed_at=T1, platform_shop_id=7)
    await scene.install(A, "b", installed_at=T2, platform_shop_id=7)
    await scene.install(B, "a", installed_at=T3, platform_shop_id=7)

    await scene.install(A, "a", installed_at=T1, platform_shop_id=7)

    assert scene.owner == B
    assert reasons(await scene.finished()) == []


async def test_late_claim_of_another_merchant_takes_no_shop(scene: Scene) -> None:
    await scene.install(A, installed_at=T2)

    await scene.install(B, installed_at=T1)

    assert scene.owner == A
    assert reasons(await scene.finished()) == []


async def test_shop_reinstalled_as_a_new_merchant_is_the_new_ones(scene: Scene) -> None:
    await scene.install(A, installed_at=T1, platform_shop_id="7")

    await scene.install(B, installed_at=T2, platform_shop_id=7)

    assert scene.row() == Shop(B, "7", scene.row().installed_at)  # type: ignore[union-attr]
    assert reasons(await scene.finished()) == []


async def test_second_shop_with_a_live_domain_is_a_dead_letter(scene: Scene) -> None:
    await scene.install(A, installed_at=T1, platform_shop_id="7")

    await scene.install(B, installed_at=T2, platform_shop_id="8")

    assert scene.owner == A
    (reason,) = reasons(await scene.finished())
    assert reason == f"SHOP_TAKEN: merchant {A} has it, with another platform_shop_id"


@pytest.mark.parametrize("how", ["forget_merchant", "uninstalled"])
async def test_shop_that_was_left_may_be_anothers(scene: Scene, how: str) -> None:
    await scene.install(A, installed_at=T1, platform_shop_id="7")
    if how == "uninstalled":
        left = {"merchant_id": A, "platform": "shopify", "domain": "a.example", "uninstalled": True}
        partition = partition_of(SHOP, PARTITIONS)
        topic = TOPICS.name(names.SHOPS)
        said = Outgoing(topic, SHOP.encode(), json.dumps(left).encode())
        scene.world.log.append(topic, partition, said)
    else:
        await scene.command(A, how)

    await scene.install(B, installed_at=T2, platform_shop_id="8")

    assert scene.owner == B
    await scene.world.stop()
    assert reasons(scene.world.copy()) == []


async def test_shop_without_an_id_is_taken_over_with_a_warning(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    await scene.install(A, installed_at=T1)

    with caplog.at_level(logging.WARNING):
        await scene.install(B, installed_at=T2, platform_shop_id="8")

    assert scene.owner == B
    (line,) = [one for one in caplog.messages if "platform_shop_id" in one]
    assert A in line
    assert B in line
    assert "a.example" not in caplog.text
    assert reasons(await scene.finished()) == []


async def test_erased_shop_comes_back_by_a_newer_installation_only(scene: Scene) -> None:
    await scene.install(A, installed_at=T2, platform_shop_id="7")
    await scene.command(A, "forget_merchant")
    erased = scene.row(erased_key(SHOP))

    await scene.install(A, installed_at=T2, platform_shop_id="7")
    await scene.install(B, installed_at=T1, platform_shop_id="8")
    assert (scene.row(), scene.row(erased_key(SHOP))) == (None, erased)
    await scene.install(C, installed_at=T3, platform_shop_id="9")

    assert (scene.owner, scene.row(erased_key(SHOP))) == (C, None)
    copy = await scene.finished()
    written = [row for row in copy.rows(names.SHOPS_TABLE) if row.key == erased_key(SHOP).encode()]
    assert [row.value for row in written] == [b'{"installed_at":"2025-12-02T00:00:00Z"}', None]
    assert b"a.example" not in (written[0].key or b"")


async def test_all_is_so_after_a_restart_on_rows_of_an_older_release(scene: Scene) -> None:
    await scene.install(A, installed_at=T1)
    await scene.world.stop()
    topic = TOPICS.changelog(names.SHOPS_TABLE)
    old = Outgoing(topic, SHOP.encode(), A.encode(), headers=(("state", b"2"),))
    scene.world.log.append(topic, partition_of(SHOP, PARTITIONS), old)
    await scene.world.restart()

    assert scene.row() == Shop(A)
    await scene.install(B, installed_at=T2, platform_shop_id="8")

    assert scene.owner == B


async def test_letter_that_is_sent_again_gets_the_shop_once_that_was_left(scene: Scene) -> None:
    await scene.install(A, installed_at=T1, platform_shop_id="7")
    await scene.install(B, installed_at=T2, platform_shop_id="8")
    claim = next(
        r for r in scene.world.copy().of(TOPICS.name(names.SHOPS)) if r.data["merchant_id"] == B
    )
    commands = TOPICS.name(names.COMMANDS)
    headers = [
        (FORWARDED_TOPIC, names.SHOPS.encode()),
        (REDRIVEN_FROM, f"{TOPICS.name(names.DEAD_LETTERS)}[0]@0".encode()),
    ]
    again = Outgoing(commands, SHOP.encode(), claim.value, headers=headers)
    partition = partition_of(SHOP, PARTITIONS)

    scene.world.log.append(commands, partition, again)
    await scene.world.feed_all()
    assert scene.owner == A
    await scene.command(A, "forget_merchant")
    scene.world.log.append(commands, partition, again)
    await scene.world.feed_all()

    assert scene.owner == B
    copy = await scene.finished()
    assert len(reasons(copy)) == 2


# -- what the verifier finds


def row_of(copy: Copy, key: str = SHOP) -> Stored:
    return [row for row in copy.rows(names.SHOPS_TABLE) if row.key == key.encode()][-1]


def another_has_it(copy: Copy) -> None:
    row = row_of(copy)
    row.put({**row.data, "merchant_id": B})


def another_id(copy: Copy) -> None:
    row = row_of(copy)
    row.put({**row.data, "platform_shop_id": "9"})


def another_time(copy: Copy) -> None:
    row = row_of(copy)
    row.put({**row.data, "installed_at": T4})


def claim_not_told(copy: Copy) -> None:
    letters = copy.of(TOPICS.name(names.DEAD_LETTERS))
    copy.drop(next(r for r in letters if r.data["reason"].startswith("SHOP_TAKEN")))


def right_claim_refused(copy: Copy) -> None:
    letters = copy.of(TOPICS.name(names.DEAD_LETTERS))
    letter = next(r for r in letters if r.data["reason"].startswith("SHOP_TAKEN"))
    letter.put({**letter.data, "offset": letter.data["offset"] - 1})


def domain_kept_of_an_erased_shop(copy: Copy) -> None:
    row = row_of(copy, erased_key("shopify:c.example"))
    copy.add(row, key=b"shopify:c.example")


def time_of_an_erased_shop_lost(copy: Copy) -> None:
    copy.drop(row_of(copy, erased_key("shopify:c.example")))


FAULTS: list[Callable[[Copy], None]] = [
    another_has_it,
    another_id,
    another_time,
    claim_not_told,
    right_claim_refused,
    domain_kept_of_an_erased_shop,
    time_of_an_erased_shop_lost,
]


@pytest_asyncio.fixture
async def copy(scene: Scene) -> Copy:
    """A claim that was refused, an older one, and an erased shop."""
    await scene.install(A, installed_at=T2, platform_shop_id="7")
    await scene.install(B, installed_at=T3, platform_shop_id="8")
    await scene.install(C, installed_at=T1)
    await scene.install(C, "c", installed_at=T3)
    await scene.command(C, "forget_merchant")
    return await scene.finished()


@pytest.mark.parametrize("seed", FAULTS)
async def test_fault_of_a_shop_is_named(copy: Copy, seed: Callable[[Copy], None]) -> None:
    seed(copy)

    report = await copy.verify()

    assert "shops" in report.faults(), "\n".join(report.lines())


async def test_compacted_topic_has_the_present_owner_and_no_fault(copy: Copy) -> None:
    for (topic, _), log in copy.logs.items():
        if topic == TOPICS.name(names.SHOPS):
            last = {record.key: record.offset for record in log}
            log[:] = [record for record in log if last[record.key] == record.offset]
    (left,) = [r for r in copy.of(TOPICS.name(names.SHOPS)) if r.key == SHOP.encode()]

    report = await copy.verify()

    assert left.data["merchant_id"] == A
    assert "shops" not in report.faults(), "\n".join(report.lines())
