"""The shop of a merchant, as an operator sets it: over HTTP, on Kafka, and on the dashboard."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from billing_stream.domain.commands import CreateMerchant, ForgetMerchant, StartTrial
from billing_stream.records import topics as names
from tests.support.nodes import Cluster, Reply, cluster, get
from tests.support.partition import Partition, record
from tests.support.tokens import client_headers, operator_headers, operator_token
from tests.web.conftest import M1, M2

PATH = "/internal/shops"
SHOP = "one.example"
SET = {
    "merchant_id": M1,
    "platform": "Shopify",
    "domain": "https://One.example/admin",
    "reason": "ticket 4714",
    "idempotency_key": "ticket-4714",
}


@pytest_asyncio.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Cluster]:
    """Two workers, and a merchant without a shop."""
    async with cluster(str(tmp_path), {0: [0, 1], 1: [2, 3]}) as found:
        reply = await found.do(CreateMerchant(M1, "shopify", "Shop 1", "create"))
        assert getattr(reply, "code", None) == "INVALID_SHOP"
        yield found


async def post(nodes: Cluster, body: dict[str, Any], node: int = 0) -> Reply:
    url = nodes.nodes[node].url
    return await get(url, PATH, operator_headers("olga"), method="POST", json=body)


async def billing(nodes: Cluster, domain: str = SHOP) -> Reply:
    await nodes.tell_shops()
    return await get(nodes.nodes[0].url, "/api/billing", client_headers(domain))


async def test_operator_sets_the_shop_and_its_clients_are_served(nodes: Cluster) -> None:
    await nodes.do(StartTrial(M1, command_id="trial"))
    assert (await billing(nodes)).status == 404

    first, again = await post(nodes, SET), await post(nodes, SET, 1)

    assert (first.status, first.data) == (201, {"platform": "shopify", "domain": SHOP})
    assert (again.replayed, again.without_ids) == (True, first.without_ids)
    assert (await billing(nodes)).data["trial"]["active"] is True


async def test_shop_moves_from_another_merchant_and_the_old_one_stays(nodes: Cluster) -> None:
    await nodes.do(CreateMerchant(M2, "shopify", SHOP, "create"))
    await nodes.do(StartTrial(M1, command_id="trial"))
    await post(nodes, SET)
    await post(nodes, SET | {"domain": "two.example", "idempotency_key": "k2"})

    for domain in (SHOP, "two.example"):
        assert (await billing(nodes, domain)).data["trial"]["active"] is True


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"domain": "two.example"}, 409, "IDEMPOTENCY_KEY_REUSED"),
        ({"domain": "a b", "idempotency_key": "k"}, 422, "INVALID_SHOP"),
        ({"platform": "Shopify Plus", "idempotency_key": "k"}, 422, "INVALID_SHOP"),
        ({"merchant_id": M2}, 404, "MERCHANT_NOT_FOUND"),
        ({"reason": ""}, 422, "VALIDATION_ERROR"),
        ({"idempotency_key": None}, 422, "VALIDATION_ERROR"),
    ],
)
async def test_refused_shop_changes_nothing(
    nodes: Cluster, change: dict[str, Any], status: int, code: str
) -> None:
    await post(nodes, SET)

    reply = await post(nodes, SET | change, 1)

    assert (reply.status, reply.code) == (status, code)
    assert (await billing(nodes)).status == 200


async def test_forgotten_merchant_gets_no_shop(nodes: Cluster) -> None:
    await nodes.do(ForgetMerchant(M1, "forget"))

    assert (await post(nodes, SET)).code == "MERCHANT_NOT_FOUND"


async def test_command_comes_by_the_topic_of_operators_only() -> None:
    partition = await Partition().restart()
    created = {"merchant_id": M1, "platform_name": "shopify", "domain": None}
    said = {"command": "set_shop", **SET, "merchant_id": M1.upper()}
    await partition.feed(record(names.MERCHANT_CREATED, 0, created))
    await partition.feed(record(names.COMMANDS, 0, said))
    await partition.feed(record(names.OPERATOR_COMMANDS, 0, said))
    await partition.feed(record(names.OPERATOR_COMMANDS, 1, {**said, "domain": "a@b"}))

    assert partition.processor.rows.merchants[M1].domain == SHOP
    (shop,) = partition.log.read(names.SHOPS)
    assert shop.key == b"shopify:one.example"
    letters = [(one["topic"], one["reason"].split(":")[0]) for one in partition.dead_letters()]
    assert letters[1:] == [
        (names.COMMANDS, letters[1][1]),
        (names.OPERATOR_COMMANDS, "IDEMPOTENCY_KEY_REUSED"),
    ]


async def test_form_on_the_page_of_a_merchant_sets_the_shop(nodes: Cluster) -> None:
    async def ask(path: str, cookie: str = "", **form: str) -> Reply:
        headers = {"Accept": "text/html", "Cookie": cookie}
        method = "POST" if form else "GET"
        url, sent = nodes.nodes[0].url, form or None
        return await get(url, path, headers, method=method, data=sent, allow_redirects=False)

    def hidden(reply: Reply) -> dict[str, str]:
        found = re.findall(rb'name="(csrf|key)" value="([^"]+)"', reply.raw)
        return {name.decode(): value.decode() for name, value in found}

    login = await ask("/ops/login", token=operator_token("olga"), next="/ops")
    cookie = login.headers["Set-Cookie"].partition(";")[0]
    page = f"/ops/merchants/{M1}"
    assert b"/shop" in (await ask(page, cookie)).raw
    form = hidden(await ask(page + "/shop", cookie))
    form |= {"platform": "shopify", "domain": "One.example.", "reason": "ticket 1"}

    wrong = await ask(page + "/shop", cookie, **form | {"domain": "me@one.example"})
    assert wrong.status == 422
    assert b"it has an @" in wrong.raw
    asked = await ask(page + "/shop", cookie, **form)
    assert b"Set the shop to one.example?" in asked.raw
    assert (await billing(nodes)).status == 404
    form |= hidden(asked)
    for _ in range(2):
        done = await ask(page + "/shop", cookie, **form, confirmed="yes")
        assert (done.status, done.headers["Location"]) == (303, f"{page}?done=shop")
    assert (await billing(nodes)).status == 200
    found = await ask("/ops/merchants?q=https://ONE.example/", cookie)
    assert found.headers["Location"] == page
