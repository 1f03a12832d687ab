"""The catalogue while it runs: one lane decides versions, each decides by what it was told."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from billing_stream.domain.model import Purchase
from billing_stream.domain.outcomes import ErrorCode, PurchaseOpened, Rejected
from billing_stream.domain.policy import PACKS, Pack
from billing_stream.records import topics as names
from billing_stream.tables.catalogue_versions import SCHEDULED_MAX, VERSIONS_MAX
from billing_stream.web.purchases import PACKS_PATH, PURCHASES_PATH
from tests.catalogue.scene import AUTUMN, HOUR, MERCHANTS, NOW, SUMMER, TWO_WORKERS, scene
from tests.support.nodes import PARTITIONS

OTHERS = range(1, PARTITIONS)


def terms(found: Purchase | Rejected) -> tuple[int, str, int | None]:
    """Credits, amount and version of a purchase."""
    assert isinstance(found, Purchase), found
    return found.credits, found.amount, found.catalogue_version


async def test_a_version_is_in_force_in_every_lane_without_a_restart(tmp_path: Path) -> None:
    async with scene(tmp_path) as on:
        before = await on.open(3)
        await on.ask(SUMMER)
        await on.tell(*OTHERS)

        assert terms(before) == (100, "9.99", None)
        for partition in range(PARTITIONS):
            assert terms(await on.open(partition)) == (120, "9.99", 1)
        assert on.decided() == [
            {
                "record": "catalogue_version",
                "version": 1,
                "effective_at": "2026-05-01T12:00:00Z",
                "packs": {"small": {"credits": 120, "prices": {"USD": "9.99"}, "title": ""}},
                "set_at": "2026-05-01T12:00:00Z",
                "by": "ann@host",
                "reason": "prices",
                "command": "billing.operator-commands.v1[0]@0",
            }
        ]
        assert on.letters() == []


async def test_a_lane_decides_by_the_versions_that_it_has_taken(tmp_path: Path) -> None:
    """Two lanes read the version at different moments: each purchase names what it was sold by."""
    async with scene(tmp_path) as on:
        await on.ask(SUMMER)
        await on.tell(1)
        assert terms(await on.open(1)) == (120, "9.99", 1)
        assert terms(await on.open(2)) == (100, "9.99", None)

        await on.tell(2)
        assert terms(await on.open(2)) == (120, "9.99", 1)


async def test_a_version_is_in_force_from_its_effective_time_on(tmp_path: Path) -> None:
    async with scene(tmp_path) as on:
        await on.ask(SUMMER, effective_at=NOW + HOUR)
        await on.ask(AUTUMN, effective_at=NOW + 2 * HOUR)
        await on.tell(*OTHERS)

        found = []
        for minutes in (0, 59, 60, 119, 120):
            on.at(NOW + timedelta(minutes=minutes))
            found.append([terms(await on.open(partition)) for partition in (0, 2)])

        small, summer, autumn = (100, "9.99", None), (120, "9.99", 1), (80, "8.50", 2)
        assert found == [[each, each] for each in (small, small, summer, summer, autumn)]


async def test_an_effective_time_is_written_in_utc(tmp_path: Path) -> None:
    async with scene(tmp_path) as on:
        await on.ask(SUMMER, effective_at="2026-05-01T16:00:00+02:00")

        assert [one["effective_at"] for one in on.decided()] == ["2026-05-01T14:00:00Z"]


async def test_a_version_replaces_one_with_the_same_effective_time(tmp_path: Path) -> None:
    async with scene(tmp_path) as on:
        await on.ask(SUMMER, effective_at=NOW + HOUR)
        await on.ask(AUTUMN, effective_at=NOW + HOUR)
        on.at(NOW + HOUR)

        assert terms(await on.open(0)) == (80, "8.50", 2)


async def test_a_retired_pack_cannot_be_opened_and_is_honoured(tmp_path: Path) -> None:
    async with scene(tmp_path) as on:
        opened = await on.open(2, "large")
        assert isinstance(opened, Purchase)
        await on.ask(SUMMER)
        await on.tell(*OTHERS)

        refused = await on.open(2, "large")
        assert isinstance(refused, Rejected)
        assert refused.code is ErrorCode.INVALID_PACK
        assert refused.message == "`pack` must be one of small"
        paid = await on.pay(2, opened)
        assert (paid["credits"], paid["amount"], paid["catalogue_version"]) == (1000, "69.99", None)


async def test_a_paid_purchase_names_the_version_it_was_opened_with(tmp_path: Path) -> None:
    async with scene(tmp_path) as on:
        await on.ask(SUMMER)
        opened = await on.open(0)
        assert isinstance(opened, Purchase)
        await on.ask(AUTUMN)

        paid = await on.pay(0, opened)
        assert (paid["credits"], paid["amount"], paid["catalogue_version"]) == (120, "9.99", 1)


async def test_versions_are_known_after_a_restore(tmp_path: Path) -> None:
    async with scene(tmp_path) as on:
        await on.ask(SUMMER)
        await on.ask(AUTUMN, effective_at=NOW + HOUR)
        await on.tell(*OTHERS)
        for node in on.workers.nodes:
            await node.own([])
        on.workers.assign(dict(enumerate(reversed(TWO_WORKERS.values()))))
        for node, partitions in zip(on.workers.nodes, reversed(TWO_WORKERS.values()), strict=True):
            await node.own(partitions)

        assert terms(await on.open(1)) == (120, "9.99", 1)
        on.at(NOW + HOUR)
        assert terms(await on.open(1)) == (80, "8.50", 2)
        await on.ask(SUMMER)
        assert [one["version"] for one in on.decided()] == [1, 2, 3]


async def test_no_more_versions_are_known_than_a_bound(tmp_path: Path) -> None:
    async with scene(tmp_path) as on:
        for minutes in range(VERSIONS_MAX + 5):
            on.at(NOW + timedelta(minutes=minutes))
            await on.ask(SUMMER)
        rows = on.workers.nodes[0].lanes[0].processor.rows
        assert [one.version for one in rows.versions] == list(range(6, VERSIONS_MAX + 6))
        await on.workers.nodes[0].own([1])
        await on.workers.nodes[0].own([0, 1])
        again = on.workers.nodes[0].lanes[0].processor.rows
        assert again.versions == rows.versions


async def test_no_more_versions_are_scheduled_than_a_bound(tmp_path: Path) -> None:
    async with scene(tmp_path) as on:
        for hours in range(SCHEDULED_MAX + 1):
            await on.ask(SUMMER, effective_at=NOW + (hours + 1) * HOUR)

        assert len(on.decided()) == SCHEDULED_MAX
        assert on.letters() == ["TOO_MANY_SCHEDULED: 50 versions are not yet in force"]


async def test_a_repeated_command_makes_one_version_per_key(tmp_path: Path) -> None:
    async with scene(tmp_path) as on:
        for _ in range(2):
            await on.ask(SUMMER, idempotency_key="k1")
            await on.ask(AUTUMN, idempotency_key="k2", effective_at=NOW + HOUR)
        on.at(NOW + 2 * HOUR)
        await on.workers.nodes[0].own([1])
        await on.workers.nodes[0].own([0, 1])
        await on.ask(SUMMER, idempotency_key="k1")
        await on.ask(AUTUMN, idempotency_key="k2", effective_at=NOW + HOUR)
        assert on.letters() == []

        for packs, more in (
            (AUTUMN, {}),
            (SUMMER, {"reason": "another"}),
            (SUMMER, {"effective_at": NOW + HOUR}),
        ):
            await on.ask(packs, idempotency_key="k1", **more)
        await on.ask(AUTUMN, idempotency_key="k2")

        keys = [(one["version"], one["idempotency_key"]) for one in on.decided()]
        assert keys == [(1, "k1"), (2, "k2")]
        reused = "IDEMPOTENCY_KEY_REUSED: version {} was set with this key and other parameters"
        assert on.letters() == [reused.format(number) for number in (1, 1, 1, 2)]


async def test_a_purchase_opened_before_keeps_its_answer_when_retired(tmp_path: Path) -> None:
    """The worker asks the lane again when the platform has answered: its pack may be gone."""
    async with scene(tmp_path) as on:
        opened = await on.open(0, "large")
        assert isinstance(opened, Purchase)
        await on.ask(SUMMER)

        again = await on.open_again(0, "large")
        assert isinstance(again, PurchaseOpened)
        assert again.purchase_id == opened.id


async def test_a_version_too_long_for_the_other_lanes_is_refused(tmp_path: Path) -> None:
    """What others get is longer than what was asked: all lanes know a version, or none."""
    packs = {f"{number:064}": {"credits": 1, "price": {"USD": "1"}} for number in range(880)}
    async with scene(tmp_path) as on:
        await on.ask(packs)

        (letter,) = on.letters()
        assert "INVALID_CATALOGUE: the version has 1" in letter
        assert "bytes, more than 100000" in letter
        assert on.decided() == []


@pytest.mark.parametrize(
    ("packs", "more", "said"),
    [
        ({}, {}, "INVALID_CATALOGUE: has no packs: name one, e.g. [packs.small]"),
        (
            {"small": {"credits": 0, "price": {"USD": "1.999"}}},
            {},
            "INVALID_CATALOGUE: packs.small.credits: must be a whole number from 1 to 1000000000; "
            "packs.small.price.USD: '1.999': USD has 2 decimals, e.g. \"9.99\"",
        ),
        (
            {"small": {"credits": 5, "price": {"EUR": "1"}}},
            {},
            "INVALID_CATALOGUE: no pack has a price in USD, the BILLING_CURRENCY: add one, or set "
            "BILLING_CURRENCY",
        ),
        (
            SUMMER,
            {"effective_at": NOW - timedelta(seconds=1)},
            "EFFECTIVE_TIME_PASSED: 2026-05-01T11:59:59+00:00 was before 2026-05-01T12:00:00+00:00",
        ),
        ({"small": {"credits": 5, "price": {"USD": 1.5}}}, {}, "Expected `str`, got `float` - at"),
        (SUMMER, {"effective_at": "2026-06-01T00:00:00"}, "Expected `datetime` with a timezone"),
        (
            SUMMER,
            {"effective_at": "9999-12-31T23:59:59-14:00"},
            "INVALID_CATALOGUE: effective_at is beyond all time",
        ),
        (SUMMER, {"reason": ""}, "Expected `str` of length >= 1 - at `$.reason`"),
    ],
)
async def test_a_wrong_command_is_a_dead_letter_that_says_why(
    packs: Any, more: Any, said: str, tmp_path: Path
) -> None:
    async with scene(tmp_path) as on:
        await on.ask(packs, **more)

        (letter,) = on.letters()
        assert said in letter
        assert on.decided() == []
        assert terms(await on.open(0)) == (100, "9.99", None)


async def test_only_one_partition_decides_and_tells_the_others(tmp_path: Path) -> None:
    async with scene(tmp_path) as on:
        await on.ask(SUMMER, partition=2)
        await on.ask(SUMMER)
        told = json.loads(on.workers.log.topics[names.OPERATOR_COMMANDS, 1][-1].value or b"")
        on.write(0, told)
        await on.tell(0, 1)
        on.write(1, told)
        await on.tell(1)

        assert sorted(on.letters()) == [
            "VERSION_KNOWN: version 1 is known already",
            "WRONG_PARTITION: partition 0: it decides versions itself",
            "WRONG_PARTITION: partition 2: only partition 0 decides it",
        ]
        assert len(on.decided()) == 1


async def test_settings_that_differ_from_the_version_are_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with scene(tmp_path) as on:
        await on.ask(SUMMER)
        node = on.workers.nodes[0]
        processor = node.lanes[0].processor
        list(processor.restored())
        assert "not those in force" not in caplog.text

        processor.policy.packs.update(small=Pack(7, {"USD": "1.00"}))
        list(processor.restored())
        assert "version 1 of the catalogue decides" in caplog.text
        processor.policy.packs.update(PACKS)


async def test_packs_over_http_are_those_that_can_be_bought(tmp_path: Path) -> None:
    async with scene(tmp_path) as on:
        await on.open(3)
        shop = "p3.example"
        asked = on.workers.other(MERCHANTS[3])
        await on.workers.tell_shops()
        before = (await asked.get(PACKS_PATH, shop)).data
        assert [pack["pack"] for pack in before] == ["small", "medium", "large"]

        await on.ask(AUTUMN, effective_at=NOW + HOUR)
        await on.tell(*OTHERS)
        assert (await asked.get(PACKS_PATH, shop)).data == before

        on.at(NOW + HOUR)
        named = {"pack": "small", "title": "A little"}
        sold = {"credits": 80, "amount": "8.50", "currency": "USD"}
        assert (await asked.get(PACKS_PATH, shop)).data == [{**named, **sold}]
        body = {"pack": "small", "platform": "shopify", "return_url": "https://shop.example/"}
        assert (await asked.post(PURCHASES_PATH, shop, body)).data["checkout_url"]
        wanted = on.workers.platform.asked[-1]
        assert (wanted.title, wanted.credits, wanted.amount) == ("A little", 80, "8.50")
