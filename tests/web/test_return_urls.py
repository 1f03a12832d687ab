"""Where a merchant goes after a checkout: what is taken for a URL, and what platforms are given."""

from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.support.nodes import Cluster, Reply, get, signed_cluster
from tests.web.conftest import M1

SHOP = "one.example"
PURCHASES = "/api/billing/purchases"
BACK = "https://app.example/back"
BUY = {"pack": "small", "platform": "stripe", "return_url": BACK}
TEMPLATE = "{CHECKOUT_SESSION_ID}"
GOOD = [
    "https://app.example",
    "http://app.example/",
    "https://app.example:65535/a/b?c=d&e=%20#f",
    "https://localhost:3000/",
    "http://127.0.0.1:8000/back",
    "https://[::1]:8080/x",
    "https://app.example./x",
    "https://müller.example/grüße",
    "https://xn--mller-kva.example/",
    "https://a_b.example/",
    "https://app.example/?q=a@b",
    "https://app.example/" + "a" * 2028,
]
BAD = [
    *("", "/back", "app.example", "//app.example/", "javascript:alert(1)", "ftp://app.example/"),
    *(
        "https:/app.example",
        "https:///thanks",
        "https://?x",
        "https://#",
        "https://",
        "https://:80",
    ),
    *("https://[::1/x", "https://[::g]/", "https://::1/", "https://[]/"),
    *("https://app.example:99999/", "https://app.example:0/", "https://app.example:x/"),
    *("https://app.example:-1/", "https://user@app.example/", "https://user:pass@app.example/"),
    *("https://@app.example/", "https://a..example/", "https://.example/", "https://-a.example/"),
    *("https://a-.example/", "https://" + "a" * 64 + ".example/", "https://1.2.3.256/"),
    *("https://1.2.3/", "https://0x7f.1/", "https://ex%61mple.com/", "https://a,b.example/"),
    *("https://app.example/a b", "https://app.example/\r\nX-Evil: 1", "https://app.example/\t"),
    *("https://app.example/\x00", "https://app.example/\x7f", 'https://app.example/"'),
    *("https://app.example/<x>", "https://app.example\\@evil.example/", "https://app.example/{x}"),
    *("https://app\u202eexample.com/", "https://app\u200b.example/", "https://app.example/\u202e"),
    *("https://app\u00a0.example/", "https://app.example/" + "a" * 2029),
    *("https://" + ".".join(["a" * 60] * 5) + "/", "https://{CHECKOUT_SESSION_ID}.example/"),
    *("https://app.example/{checkout_session_id}", "https://app.example/{CHECKOUT_SESSION_ID"),
]


@pytest_asyncio.fixture
async def shop(two: Cluster) -> Cluster:
    await two.create(M1, SHOP)
    return two


async def buy(shop: Cluster, **changes: Any) -> Reply:
    key = changes.pop("key", None)
    keys = {"Idempotency_Key": key} if key else {}
    return await shop.nodes[0].post(PURCHASES, SHOP, {**BUY, **changes}, **keys)


@pytest.mark.parametrize("url", GOOD)
async def test_a_url_that_a_browser_can_open_is_given_to_the_platform(
    shop: Cluster, url: str
) -> None:
    assert (await buy(shop, return_url=url)).status == 201
    assert (await buy(shop, cancel_url=url)).status == 201

    first, second = shop.platform.asked
    assert (first.return_url, first.cancel_url) == (url, url)
    assert (second.return_url, second.cancel_url) == (BACK, url)


@pytest.mark.parametrize("url", BAD)
@pytest.mark.parametrize("field", ["return_url", "cancel_url"])
async def test_any_other_is_refused_in_words_that_name_the_field(
    shop: Cluster, field: str, url: str
) -> None:
    reply = await buy(shop, **{field: url})

    assert (reply.status, reply.code) == (422, "VALIDATION_ERROR")
    assert reply.body["error"]["message"].startswith(f"`{field}` ")
    assert "regex" not in reply.body["error"]["message"]
    assert shop.platform.asked == []


@pytest.mark.parametrize("field", ["return_url", "cancel_url"])
async def test_the_place_of_the_session_id_is_for_stripe_only(shop: Cluster, field: str) -> None:
    url = f"https://app.example/ok?session_id={TEMPLATE}&x={TEMPLATE}"

    stripe = await buy(shop, **{field: url})
    shopify = await buy(shop, platform="shopify", **{field: url})

    assert stripe.status == 201
    assert getattr(shop.platform.asked[0], field) == url
    assert (shopify.status, shopify.code) == (422, "VALIDATION_ERROR")
    assert "with stripe only" in shopify.body["error"]["message"]


async def test_a_key_is_for_one_cancel_url(shop: Cluster) -> None:
    there, elsewhere = "https://app.example/cancelled", "https://app.example/elsewhere"
    first = await buy(shop, key="k", cancel_url=there)
    again = await buy(shop, key="k", cancel_url=there)
    other = await buy(shop, key="k", cancel_url=elsewhere)
    without = await buy(shop, key="k")
    null = await buy(shop, key="n", cancel_url=None)
    absent = await buy(shop, key="n")

    assert again.without_ids == first.without_ids
    for reply in (other, without):
        assert (reply.status, reply.code) == (409, "IDEMPOTENCY_KEY_REUSED")
    assert absent.without_ids == null.without_ids
    assert len(shop.platform.asked) == 2


async def test_a_cancel_url_stands_in_the_journal_where_one_was_given(shop: Cluster) -> None:
    await buy(shop)
    await buy(shop, cancel_url="https://app.example/cancelled")

    entries = [record.value or b"" for record in shop.log.read("billing.journal.v1")]
    reserved = [entry for entry in entries if b"reserve_purchase" in entry]
    assert [b"cancel_url" in entry for entry in reserved] == [False, True]


@pytest.mark.parametrize(("action", "goes"), [("pay", "paid?id="), ("decline", "left")])
async def test_the_local_page_leads_back_as_the_platforms_would(
    tmp_path: Path, action: str, goes: str
) -> None:
    body = {
        "return_url": f"https://app.example/paid?id={TEMPLATE}",
        "cancel_url": "https://app.example/left",
    }
    async with signed_cluster(str(tmp_path), {0: [0, 1, 2, 3]}) as found:
        await found.create(M1, SHOP)
        node = found.nodes[0]
        opened = (await node.post(PURCHASES, SHOP, {**BUY, **body})).data
        charge = (await node.get(PURCHASES, SHOP)).data[0]["platform_charge_id"]
        path = opened["checkout_url"].partition("/dev/")[2]
        page = await get(node.url, f"/dev/{path}", method="POST", data={"action": action})

    back = f"https://app.example/{goes}{charge if action == 'pay' else ''}"
    assert f'href="{back}"'.encode() in page.raw
