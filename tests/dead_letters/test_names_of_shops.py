"""A merchant whose shop is not named has no shop until somebody names it; all else works."""

from typing import Any

import pytest

from billing_stream.domain.model import Merchant
from billing_stream.records import forwarding
from billing_stream.records import topics as names
from tests.support.partition import Partition, record
from tests.support.world import M1

CREATED = {"merchant_id": M1, "platform_name": "Shopify", "domain": "https://One.example/"}


async def with_created(**changed: Any) -> Partition:
    """A partition that took a record of a new merchant."""
    partition = await Partition().restart()
    await partition.feed(record(names.MERCHANT_CREATED, 0, {**CREATED, **changed}))
    return partition


def merchant(partition: Partition) -> Merchant:
    found: Merchant = partition.rows()["merchants"][M1]
    return found


async def test_shop_is_registered_under_its_one_name() -> None:
    partition = await with_created()

    assert (merchant(partition).platform, merchant(partition).domain) == (
        "shopify",
        "one.example",
    )
    (shop,) = partition.log.read(names.SHOPS)
    assert shop.key == b"shopify:one.example"
    assert partition.dead_letters() == []


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"domain": "owner@mail.example"}, "domain 'owner@mail.example': it has an @"),
        ({"domain": ""}, "domain '': it is empty"),
        ({"domain": None}, "domain '': it is empty"),
        ({"domain": "x" * 300}, f"domain '{'x' * 100}…': a part of a host name has at most 63"),
        ({"platform_name": "Shopify Plus"}, "platform 'Shopify Plus': a platform is 1 to 64"),
        ({"platform_name": None}, "platform '': a platform is 1 to 64"),
    ],
)
async def test_merchant_is_created_without_a_shop_that_is_not_named(
    changed: dict[str, Any], why: str
) -> None:
    partition = await with_created(**changed)
    await partition.feed(record(names.COMMANDS, 0, {"command": "start_trial", "merchant_id": M1}))

    row = merchant(partition)
    assert row.domain == row.platform == ""
    assert row.created_at is not None
    assert row.trial_ends_at is not None
    assert partition.log.read(names.SHOPS) == []
    (letter,) = partition.dead_letters()
    assert letter["reason"].startswith(f"INVALID_SHOP: {why}")


async def test_edited_dead_letter_gives_the_merchant_its_shop() -> None:
    partition = await with_created(domain="127.0.0.1")
    headers = [
        (forwarding.FORWARDED_TOPIC, names.MERCHANT_CREATED.encode()),
        (forwarding.REDRIVEN_FROM, f"{names.DEAD_LETTERS}[0]@0".encode()),
    ]
    for number, domain in enumerate(("127.0.0.2", "one.example", "two.example")):
        edited = {**CREATED, "domain": domain}
        await partition.feed(record(names.COMMANDS, number, edited, headers=headers))

    assert merchant(partition).domain == "one.example"
    codes = [letter["reason"].partition(":")[0] for letter in partition.dead_letters()]
    assert codes == ["INVALID_SHOP", "INVALID_SHOP", "ALREADY_REDRIVEN"]


async def test_known_merchant_keeps_its_shop_where_none_is_named() -> None:
    partition = await with_created()
    await partition.feed(record(names.MERCHANT_CREATED, 1, {**CREATED, "domain": "a b"}))

    assert merchant(partition).domain == "one.example"
    assert len(partition.log.read(names.SHOPS)) == len(partition.dead_letters()) == 1


async def test_import_without_a_named_shop_brings_in_all_else() -> None:
    partition = await Partition().restart()
    brought = {
        "command": "import_merchant",
        "merchant_id": M1,
        "created_at": "2020-01-01T00:00:00Z",
        "trial_available": False,
        "platform": "shopify",
        "domain": "12345",
    }
    await partition.feed(record(names.COMMANDS, 0, brought))

    assert not merchant(partition).trial_available
    assert merchant(partition).domain == ""
    (letter,) = partition.dead_letters()
    assert letter["reason"].startswith("INVALID_SHOP: domain '12345': its last part is a number")
