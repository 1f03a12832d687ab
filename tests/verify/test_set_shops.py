"""The verifier and the replay follow shops that are named wrongly, and those that operators set."""

import pytest

from billing_stream.domain.commands import SetShop
from billing_stream.domain.outcomes import ErrorCode, Rejected, ShopSet
from billing_stream.records import topics as names
from tests.replaying.log import replayed
from tests.verify.imports import bring, old
from tests.verify.world import TOPICS, Copy, World, merchant_id

ONE, TWO, THREE = map(merchant_id, range(3))
SET = {"command": "set_shop", "platform": "Shopify", "reason": "ticket"}


async def log_with_shops() -> Copy:
    """Two merchants without a shop; each gets the same one from an operator, and one another."""
    world = await World().restart()
    for merchant, domain in ((ONE, None), (TWO, "me@two.example")):
        created = {"merchant_id": merchant, "platform_name": "shopify", "domain": domain}
        world.send(names.MERCHANT_CREATED, created)
    bring(world, THREE, old(THREE, 0), platform="shopify", domain="12345")
    await world.feed_all()
    for domain, key in (("One.example", "a"), ("One.example", "a"), ("a b", "b"), ("x.y", "a")):
        said = {**SET, "merchant_id": ONE, "domain": domain, "idempotency_key": key}
        world.send(names.OPERATOR_COMMANDS, said)
    await world.feed_all()
    for number, domain in enumerate(("two.example:443", "one.example", "one.example", "1.2.3.4")):
        asked = SetShop(TWO, "shopify", domain, "ticket", f"k{number}", f"http/{number}")
        reply = await world.ask(asked, "operator:olga")
        assert isinstance(reply, Rejected if domain == "1.2.3.4" else ShopSet)
    refused = await world.ask(SetShop(merchant_id(9), "shopify", "a.b", "ticket", "k", "http/9"))
    assert refused.code is ErrorCode.MERCHANT_NOT_FOUND
    await world.feed_all()
    copy = world.copy()
    await world.stop()
    return copy


async def test_shops_that_operators_set_are_verified_and_replayed() -> None:
    copy = await log_with_shops()

    report, again = await copy.verify(), await replayed(copy)

    assert report.faults() == set(), "\n".join(report.lines())
    assert not again.differences
    shops = {row.key: row.value for row in copy.rows(names.SHOPS_TABLE)}
    assert {b"shopify:one.example", b"shopify:two.example"} == shops.keys()
    reasons = [one.data["reason"].split(":")[0] for one in copy.of(TOPICS.name(names.DEAD_LETTERS))]
    assert sorted(reasons) == ["IDEMPOTENCY_KEY_REUSED"] + ["INVALID_SHOP"] * 4


@pytest.mark.parametrize("table", [names.BILLING_RECORDS, names.IDEMPOTENCY_KEYS])
async def test_row_without_the_shop_that_was_set_is_a_fault(table: str) -> None:
    copy = await log_with_shops()
    for row in copy.rows(table):
        if row.value and b"one.example" in row.value:
            copy.drop(row)
    copy.compact()

    assert "tables" in (await copy.verify()).faults()
