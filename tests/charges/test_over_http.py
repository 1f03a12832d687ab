"""Shopify's webhooks find the purchase of their charge, whoever has the shop by now."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from billing_stream.domain.commands import (
    AdvanceTime,
    AttachCharge,
    CreateMerchant,
    ForgetMerchant,
    ReservePurchase,
)
from billing_stream.domain.model import Platform, PurchaseStatus
from billing_stream.records import topics as names
from billing_stream.web.ops.cookies import CookiePolicy
from billing_stream.web.ops.session import begin
from tests.support import signed_webhooks as sent
from tests.support.nodes import Cluster, Reply, get, signed_cluster
from tests.support.signed_webhooks import Signed
from tests.support.tokens import operator_token
from tests.support.worker import INTERNAL_SECRET

M1 = "11111111-1111-4111-8111-111111111111"
M2 = "22222222-2222-4222-8222-222222222222"
SHOP, RENAMED = "one.myshopify.com", "renamed.myshopify.com"
CHARGE = "gid://shopify/AppPurchaseOneTime/1"


@pytest_asyncio.fixture
async def shops(tmp_path: Path) -> AsyncIterator[Cluster]:
    """Two workers, and a shop of M1."""
    async with signed_cluster(str(tmp_path), {0: [0, 1], 1: [2, 3]}) as found:
        await found.create(M1, SHOP)
        yield found


async def reserve(shops: Cluster, merchant_id: str = M1, number: int = 1) -> str:
    """Open a purchase whose charge is not known yet; its id."""
    name = f"r/{merchant_id}/{number}"
    reply = await shops.ask(
        ReservePurchase(merchant_id, "small", Platform.SHOPIFY, command_id=name)
    )
    return str(reply.purchase_id)


async def attach(shops: Cluster, purchase_id: str, merchant_id: str = M1) -> Any:
    return await shops.do(AttachCharge(merchant_id, purchase_id, CHARGE, "https://pay.example/1"))


async def post(shops: Cluster, webhook: Signed, node: int = 0) -> Reply:
    url = shops.nodes[node].url
    return await get(url, webhook.path, webhook.headers, method="POST", data=webhook.body)


async def pay(shops: Cluster, shop: str = SHOP, status: str = "ACTIVE") -> None:
    """Have Shopify's webhook come, and all that it causes happen."""
    reply = await post(shops, sent.shopify(sent.charge(CHARGE, status), shop))
    assert reply.data == {"accepted": True}
    await shops.take_webhooks()
    await shops.take_webhooks()


def purchase(shops: Cluster, purchase_id: str, merchant_id: str = M1) -> Any:
    lanes = shops.owner(merchant_id).lanes.values()
    rows = (lane.processor.rows.purchase(purchase_id) for lane in lanes)
    return next(row for row in rows if row is not None)


def granted(shops: Cluster) -> list[tuple[str, str]]:
    """Merchant and purchase of all credits that were granted."""
    return [(e["merchant_id"], e["purchase_id"]) for e in shops.events("credits.purchased")]


def letters(shops: Cluster) -> list[dict[str, Any]]:
    return [json.loads(one.value or b"") for one in shops.log.read(names.DEAD_LETTERS)]


def early(shops: Cluster) -> int:
    lanes = [lane for node in shops.nodes for lane in node.lanes.values()]
    return sum(len(c.waiting) for lane in lanes for c in lane.processor.rows.unclaimed.values())


async def forgotten(shops: Cluster) -> str:
    await shops.do(ForgetMerchant(M1, "forget"))
    return SHOP


async def reinstalled(shops: Cluster) -> str:
    await shops.do(CreateMerchant(M2, "shopify", SHOP, "again"))
    return SHOP


async def renamed(shops: Cluster) -> str:
    return RENAMED


async def moved(shops: Cluster) -> str:
    """The merchant has another shop, and its old one belongs to another merchant."""
    await shops.do(CreateMerchant(M1, "shopify", RENAMED, "moved"))
    await shops.do(CreateMerchant(M2, "shopify", SHOP, "old one"))
    return SHOP


CHANGES = [forgotten, reinstalled, renamed, moved]


@pytest.mark.parametrize("change", CHANGES)
async def test_payment_finds_its_purchase_after_the_shop_changed(
    shops: Cluster, change: Any
) -> None:
    bought = await reserve(shops)
    await attach(shops, bought)

    await pay(shops, await change(shops))

    assert granted(shops) == [(M1, bought)]
    assert letters(shops) == []


@pytest.mark.parametrize("change", CHANGES)
async def test_early_payment_finds_its_purchase_after_the_shop_changed(
    shops: Cluster, change: Any
) -> None:
    bought = await reserve(shops)
    await pay(shops, await change(shops))
    assert (granted(shops), early(shops)) == ([], 1)

    await attach(shops, bought)

    assert (granted(shops), early(shops)) == ([(M1, bought)], 0)
    assert letters(shops) == []


async def test_early_webhooks_apply_in_their_order_and_once(shops: Cluster) -> None:
    bought = await reserve(shops)
    for status in ("DECLINED", "ACTIVE", "ACTIVE"):
        await pay(shops, status=status)

    await attach(shops, bought)
    await pay(shops)

    assert granted(shops) == [(M1, bought)]
    assert purchase(shops, bought).status is PurchaseStatus.COMPLETED
    assert [e["purchase_id"] for e in shops.events("purchase.failed")] == [bought]


async def test_first_purchase_has_the_charge_and_a_second_is_refused(shops: Cluster) -> None:
    await shops.create(M2, "two.myshopify.com")
    first, second = await reserve(shops), await reserve(shops, M2)
    await attach(shops, first)
    await attach(shops, second, M2)
    await attach(shops, first)

    await pay(shops, "two.myshopify.com")

    assert granted(shops) == [(M1, first)]
    (letter,) = letters(shops)
    assert letter["topic"] == names.CHARGES
    assert letter["reason"].startswith(f"CHARGE_TAKEN: the charge '{CHARGE}' is that of purchase")
    # What compaction leaves is the one that counts.
    last = shops.log.read(names.CHARGES)[-1]
    assert last.key == f"shopify:{CHARGE}".encode()
    assert json.loads(last.value or b"")["purchase_id"] == first


async def test_webhook_whose_charge_is_never_attached_is_a_dead_letter(shops: Cluster) -> None:
    await pay(shops, RENAMED)
    for node in shops.nodes:
        node.now = datetime.now(UTC) + timedelta(hours=25)
        for lane in node.lanes.values():
            lane.wake_if_due()
    await shops.ask(AdvanceTime(M1))
    await shops.ask(AdvanceTime(M2))
    for node in shops.nodes:
        await node.lanes.pause()

    (letter,) = letters(shops)
    assert letter["reason"] == f"no purchase claimed the charge '{CHARGE}' in time"
    assert (letter["topic"], early(shops)) == (names.CHARGES, 0)


async def test_invalid_webhook_of_an_unknown_charge_is_a_letter_at_once(shops: Cluster) -> None:
    await post(shops, sent.shopify(sent.charge("c\0"), SHOP))

    records = [record for node in shops.nodes for record in node.ingress.records]
    kept = [letter for node in shops.nodes for letter in node.ingress.letters]
    assert (records, [letter.topic for letter in kept]) == ([], ["http:shopify"])


async def test_new_owner_of_a_partition_knows_charges_and_what_waits(shops: Cluster) -> None:
    bought = await reserve(shops)
    await pay(shops, RENAMED)
    for node, owned in zip(shops.nodes, ([2, 3], [0, 1]), strict=True):
        await node.lanes.pause()
        await node.own(owned)
    shops.assign({0: [2, 3], 1: [0, 1]})
    assert early(shops) == 1

    await attach(shops, bought)
    await pay(shops, RENAMED, "FROZEN")

    assert granted(shops) == [(M1, bought)]


async def test_webhook_that_waits_is_on_the_page_of_its_shops_merchant(shops: Cluster) -> None:
    await pay(shops)
    cookie, *_ = begin(operator_token("olga"), INTERNAL_SECRET)
    sent_with = {"Cookie": f"{CookiePolicy(is_real=False).name}={cookie}"}

    page = await get(shops.nodes[1].url, f"/ops/merchants/{M1}", sent_with)

    assert b'id="early">1, the oldest since' in page.raw
