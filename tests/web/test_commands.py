"""Commands over HTTP: from any worker to the owner's lane, answered when committed."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from billing_stream.domain.commands import RefundCharge, StartTrial
from billing_stream.records import topics as names
from billing_stream.web.commands import COMMANDS_PATH
from tests.support.memory_log import MemoryWriter
from tests.support.nodes import Cluster, Node, Reply, cluster, get
from tests.support.platform import no_checkout
from tests.support.tokens import client_headers, old_worker_headers
from tests.web.conftest import M1, M2

SHOP = "one.example"
TRIALS = "/api/billing/trials"
PURCHASES = "/api/billing/purchases"
BUY = {"pack": "small", "platform": "shopify", "return_url": "https://app.example/back"}


@pytest_asyncio.fixture
async def shop(two: Cluster) -> Cluster:
    await two.create(M1, SHOP)
    return two


@pytest_asyncio.fixture
async def hasty(tmp_path: Path) -> AsyncIterator[Cluster]:
    """Two workers that wait for half a second at most."""
    owned = {0: [0, 1], 1: [2, 3]}
    async with cluster(str(tmp_path), owned, BILLING_REQUEST_DEADLINE="500ms") as found:
        await found.create(M1, SHOP)
        yield found


@pytest.mark.parametrize("asked", [0, 1])
async def test_a_trial_is_started_from_any_worker_and_read_from_any_at_once(
    shop: Cluster, asked: int
) -> None:
    reply = await shop.nodes[asked].post(TRIALS, SHOP)

    assert reply.status == 201
    (event,) = shop.events("trial.started")
    assert reply.data == {
        "success": True,
        "ends_at": event["ends_at"],
        "credits_granted": 500,
    }
    for node in shop.nodes:
        trial = (await node.get(TRIALS, SHOP)).data
        assert (trial["available"], trial["active"]) == (False, True)
        assert trial["ends_at"] == reply.data["ends_at"]


async def test_a_command_is_journalled_with_the_callers_correlation_id(shop: Cluster) -> None:
    await shop.nodes[0].post(TRIALS, SHOP, X_Correlation_ID="c-7", X_Request_ID="r-7")

    (entry,) = [r for r in shop.log.read(names.JOURNAL) if b"start_trial" in (r.value or b"")]
    assert b'"correlation_id":"c-7"' in (entry.value or b"")
    assert b'"origin":"http"' in (entry.value or b"")
    assert b"r-7" not in (entry.value or b""), "a client's request id names nothing of ours"


async def test_a_second_trial_is_refused(shop: Cluster) -> None:
    await shop.nodes[0].post(TRIALS, SHOP)

    for node in shop.nodes:
        reply = await node.post(TRIALS, SHOP, {})
        assert (reply.status, reply.code) == (409, "TRIAL_ALREADY_USED")
    assert len(shop.events("trial.started")) == 1


async def test_a_purchase_is_opened_at_the_platform_and_can_be_read(shop: Cluster) -> None:
    reply = await shop.nodes[0].post(PURCHASES, SHOP, BUY)

    assert reply.status == 201
    assert reply.data["checkout_url"] == "https://pay.example/1"
    (asked,) = shop.platform.asked
    assert (asked.purchase_id, asked.amount, asked.currency, asked.shop_domain, asked.credits) == (
        reply.data["purchase_id"],
        "9.99",
        "USD",
        SHOP,
        100,
    )
    for node in shop.nodes:
        purchase = (await node.get(f"{PURCHASES}/{reply.data['purchase_id']}", SHOP)).data
        assert purchase["status"] == "pending"
        assert purchase["platform_charge_id"] == "gid://shopify/AppPurchaseOneTime/1"
        assert purchase["expires_at"] == reply.data["expires_at"]


async def transactions(shop: Cluster) -> int:
    ready = [await get(node.url, "/ready") for node in shop.nodes]
    return sum(p["transactions"] for reply in ready for p in reply.data["partitions"])


async def test_opening_a_purchase_takes_two_transactions(shop: Cluster) -> None:
    before = await transactions(shop)
    first = await shop.nodes[0].post(PURCHASES, SHOP, BUY, Idempotency_Key="k-1")
    assert await transactions(shop) == before + 2

    again = await shop.nodes[1].post(PURCHASES, SHOP, BUY, Idempotency_Key="k-1")
    assert again.data == first.data
    assert again.body["meta"]["timestamp"] == first.body["meta"]["timestamp"]


async def test_two_purchases_of_one_pack_have_charges_of_their_own(shop: Cluster) -> None:
    replies = [await shop.nodes[0].post(PURCHASES, SHOP, BUY) for _ in range(2)]

    ids = {reply.data["purchase_id"] for reply in replies}
    listed = (await shop.nodes[1].get(PURCHASES, SHOP)).data
    assert {purchase["id"] for purchase in listed} == ids
    assert len({purchase["platform_charge_id"] for purchase in listed}) == 2


async def test_a_request_id_used_again_names_no_purchase(shop: Cluster) -> None:
    ids = {
        (await shop.nodes[0].post(PURCHASES, SHOP, BUY, X_Request_ID="same")).data["purchase_id"]
        for _ in range(2)
    }

    assert len(ids) == 2


async def test_platform_without_a_checkout_is_502_and_the_purchase_failed(
    shop: Cluster,
) -> None:
    shop.platform.errors = [no_checkout("shopify is busy")]

    reply = await shop.nodes[0].post(PURCHASES, SHOP, BUY)

    assert (reply.status, reply.code) == (502, "PLATFORM_ERROR")
    assert "shopify is busy" in reply.body["error"]["message"]
    (purchase,) = (await shop.nodes[1].get(PURCHASES, SHOP)).data
    assert purchase["status"] == "failed"
    (event,) = shop.events("purchase.failed")
    assert event["reason"] == "shopify is busy"


async def test_a_charge_that_belongs_to_another_purchase_is_no_checkout(shop: Cluster) -> None:
    shop.platform.same_charge = "gid://shopify/AppPurchaseOneTime/7"
    first = await shop.nodes[0].post(PURCHASES, SHOP, BUY)

    second = await shop.nodes[0].post(PURCHASES, SHOP, BUY)

    assert first.status == 201
    assert (second.status, second.code) == (502, "PLATFORM_ERROR")


@pytest.mark.parametrize("charge", ["", "x" * 256])
async def test_an_answer_of_the_platform_that_does_not_fit_is_no_checkout(
    shop: Cluster, charge: str
) -> None:
    shop.platform.same_charge = charge

    reply = await shop.nodes[0].post(PURCHASES, SHOP, BUY)

    assert (reply.status, reply.code) == (502, "PLATFORM_ERROR")


@pytest.mark.logs_errors
async def test_a_fault_of_an_adapter_is_ours_and_a_repetition_may_mend_it(shop: Cluster) -> None:
    shop.platform.errors = [ZeroDivisionError("a bug")]

    reply = await shop.owner(M1).post(PURCHASES, SHOP, BUY, Idempotency_Key="k")
    again = await shop.owner(M1).post(PURCHASES, SHOP, BUY, Idempotency_Key="k")

    assert (reply.status, reply.code) == (500, "INTERNAL_ERROR")
    assert again.status == 201


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({**BUY, "pack": 7}, "pack"),
        ({**BUY, "platform": "paypal"}, "platform"),
        ({**BUY, "return_url": "/back"}, "return_url"),
        ({**BUY, "return_url": "javascript:alert(1)"}, "return_url"),
        ({**BUY, "return_url": "https://app.example/\r\nX-Evil: 1"}, "return_url"),
        ({**BUY, "colour": "red"}, "colour"),
        ({"pack": "small"}, "platform"),
        ({**BUY, "idempotency_key": ""}, "idempotency_key"),
        ({**BUY, "idempotency_key": "k" * 256}, "idempotency_key"),
        ({**BUY, "idempotency_key": "a\x00b"}, "idempotency_key"),
        ([], ""),
    ],
)
async def test_a_body_that_is_not_right_is_refused_and_says_what_is_wrong(
    shop: Cluster, body: Any, named: str
) -> None:
    reply = await shop.nodes[0].post(PURCHASES, SHOP, body)

    assert (reply.status, reply.code) == (422, "VALIDATION_ERROR")
    error = reply.body["error"]
    (wrong,) = error["details"]
    assert (wrong["field"], wrong["message"]) == (named, error["message"])
    assert named in wrong["message"]
    assert (await shop.nodes[0].get(PURCHASES, SHOP)).data == []


async def test_a_platform_that_is_not_set_up_is_refused_by_a_code_of_its_own(shop: Cluster) -> None:
    reply = await shop.nodes[0].post(PURCHASES, SHOP, {**BUY, "platform": "custom"})

    assert (reply.status, reply.code) == (422, "UNKNOWN_PLATFORM")
    assert [wrong["field"] for wrong in reply.body["error"]["details"]] == ["platform"]
    assert (await shop.nodes[0].get(PURCHASES, SHOP)).data == []


async def test_an_unknown_pack_is_refused_and_its_key_stays_free(shop: Cluster) -> None:
    bad = await shop.nodes[0].post(PURCHASES, SHOP, {**BUY, "pack": "huge"}, Idempotency_Key="k")
    good = await shop.nodes[0].post(PURCHASES, SHOP, BUY, Idempotency_Key="k")

    assert (bad.status, bad.code) == (422, "INVALID_PACK")
    assert good.status == 201


@pytest.mark.parametrize(
    ("raw", "refusal"),
    [
        (b"{", (400, "BAD_REQUEST")),
        (b"\xff", (400, "BAD_REQUEST")),
        (b"[" * 5000, (422, "VALIDATION_ERROR")),
        (b"null", (422, "VALIDATION_ERROR")),
        (b'"x"', (422, "VALIDATION_ERROR")),
    ],
)
async def test_what_is_no_json_object_is_refused(
    shop: Cluster, raw: bytes, refusal: tuple[int, str]
) -> None:
    for path in (TRIALS, PURCHASES):
        headers = client_headers(SHOP, Content_Type="application/json")
        reply = await get(shop.nodes[0].url, path, headers, method="POST", data=raw)
        assert (reply.status, reply.code) == refusal
        assert len(reply.body["error"]["details"]) == 1
    assert (await shop.nodes[0].get(TRIALS, SHOP)).data["available"] is True


async def test_a_shop_without_a_merchant_can_do_nothing(shop: Cluster) -> None:
    for path, body in ((TRIALS, None), (PURCHASES, BUY)):
        reply = await shop.nodes[0].post(path, "nobody.example", body)
        assert (reply.status, reply.code) == (404, "MERCHANT_NOT_FOUND")


async def test_while_the_partition_moves_nothing_is_done_and_that_is_said(shop: Cluster) -> None:
    owner = shop.owner(M1)
    await owner.lanes.pause()

    for node in shop.nodes:
        reply = await node.post(TRIALS, SHOP)
        assert (reply.status, reply.code) == (503, "NOT_READY")
        assert int(reply.headers["Retry-After"]) > 0


async def test_a_command_that_was_taken_is_answered_before_the_partition_leaves(
    shop: Cluster,
) -> None:
    owner, other = shop.owner(M1), shop.other(M1)

    asked = asyncio.create_task(other.post(TRIALS, SHOP))
    await asyncio.sleep(0.05)
    await owner.own([])

    assert (await asked).status in (201, 503)
    assert len(shop.events("trial.started")) == (1 if asked.result().status == 201 else 0)


async def test_no_answer_in_time_is_a_504_that_says_what_is_safe(hasty: Cluster) -> None:
    """And the client's repetition gets the one true answer."""
    hasty.platform.open.clear()

    late = [await node.post(PURCHASES, SHOP, BUY, Idempotency_Key="k") for node in hasty.nodes]
    hasty.platform.open.set()
    again = [await node.post(PURCHASES, SHOP, BUY, Idempotency_Key="k") for node in hasty.nodes]

    for reply in late:
        assert (reply.status, reply.code) == (504, "OUTCOME_UNKNOWN")
        assert "same idempotency key is safe" in reply.body["error"]["message"]
    assert [reply.status for reply in again] == [201, 201]
    assert len(hasty.platform.asked) == 1, "the platform was asked once, and its answer kept"
    assert len((await hasty.nodes[0].get(PURCHASES, SHOP)).data) == 1


async def test_a_commit_that_takes_too_long_is_a_504(
    hasty: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = asyncio.Event()

    async def never(*_: Any) -> None:
        await stuck.wait()

    with monkeypatch.context() as patched:
        patched.setattr(MemoryWriter, "commit", never)
        reply = await hasty.other(M1).post(TRIALS, SHOP)
        stuck.set()

    assert (reply.status, reply.code) == (504, "OUTCOME_UNKNOWN")


async def test_an_owner_that_cannot_be_reached_has_done_nothing(shop: Cluster) -> None:
    owner, other = shop.owner(M1), shop.other(M1)
    # The shop's partition may lie there too.
    other.context.owners._cache.put(f"shopify:{SHOP}", M1)
    owner_url = owner.url
    await owner._server.close()
    other.hears({owner_url: [0, 1, 2, 3]})
    await other.own([])

    reply = await other.post(TRIALS, SHOP)

    assert (reply.status, reply.code) == (503, "NOT_READY")


async def test_only_workers_of_ours_may_give_commands_to_each_other(shop: Cluster) -> None:
    owner = shop.owner(M1)
    body = {
        "command": {"command": "start_trial", "merchant_id": M1},
        "shop_domain": SHOP,
        "correlation_id": "c",
    }

    replies = [
        await get(owner.url, COMMANDS_PATH, headers, method="POST", json=body)
        for headers in ({}, client_headers(SHOP), old_worker_headers("x" * 32))
    ]
    wrong = await get(
        shop.other(M1).url,
        COMMANDS_PATH,
        old_worker_headers(),
        method="POST",
        json=body,
    )
    bad = await get(owner.url, COMMANDS_PATH, old_worker_headers(), method="POST", data=b"{}")

    assert [reply.status for reply in replies] == [401, 401, 401]
    assert (wrong.status, wrong.code) == (503, "NOT_READY"), "one hop, never more"
    assert (bad.status, bad.code) == (422, "VALIDATION_ERROR")
    assert shop.events("trial.started") == []


async def test_purchase_reserved_by_a_dead_worker_gets_its_checkout_later(
    shop: Cluster,
) -> None:
    """The first worker had asked the platform, and its answer was lost with it."""
    owner, other = shop.owner(M1), shop.other(M1)
    everything = [0, 1, 2, 3]
    shop.platform.open.clear()
    lost = asyncio.create_task(owner.post(PURCHASES, SHOP, BUY, Idempotency_Key="k"))
    await asyncio.wait_for(shop.platform.was_asked.wait(), 5)

    await owner.own([])
    await other.own(everything)
    number = shop.nodes.index(other)
    shop.assign({number: everything})
    shop.platform.open.set()
    reply = await other.post(PURCHASES, SHOP, BUY, Idempotency_Key="k")

    assert (await lost).status == 504
    assert reply.status == 201
    assert reply.data["checkout_url"] == "https://pay.example/2"
    (purchase,) = (await other.get(PURCHASES, SHOP)).data
    assert purchase["platform_charge_id"] == "gid://shopify/AppPurchaseOneTime/2"


async def test_a_partition_that_moves_during_a_checkout_leaves_the_outcome_open(
    shop: Cluster,
) -> None:
    """503 would say that nothing was done; but the purchase is opened already."""
    owner = shop.owner(M1)
    shop.platform.open.clear()
    asked = [asyncio.create_task(node.post(PURCHASES, SHOP, BUY)) for node in shop.nodes]
    await asyncio.wait_for(shop.platform.was_asked.wait(), 5)
    await asyncio.sleep(0.1)

    await owner.lanes.pause()
    shop.platform.open.set()

    for reply in await asyncio.gather(*asked):
        assert (reply.status, reply.code) == (504, "OUTCOME_UNKNOWN")


@pytest.mark.logs_errors
async def test_a_fault_of_the_owner_is_no_not_ready(shop: Cluster) -> None:
    shop.platform.errors = [ZeroDivisionError("a bug")]

    reply = await shop.other(M1).post(PURCHASES, SHOP, BUY)

    assert (reply.status, reply.code) == (504, "OUTCOME_UNKNOWN")
    assert len((await shop.nodes[0].get(PURCHASES, SHOP)).data) == 1


async def test_a_platform_that_only_the_asked_worker_knows_is_no_checkout(
    shop: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shop.owner(M1).context.checkouts, "_platforms", {})

    reply = await shop.other(M1).post(PURCHASES, SHOP, BUY)

    assert (reply.status, reply.code) == (502, "PLATFORM_ERROR")


async def test_a_purchase_settled_before_its_checkout_asks_the_platform_once(
    shop: Cluster,
) -> None:
    """A refund that names the purchase comes while the platform is asked, and it fails."""
    shop.platform.open.clear()
    shop.platform.errors = [no_checkout("shopify is busy")]
    asked = asyncio.create_task(shop.nodes[0].post(PURCHASES, SHOP, BUY))
    await asyncio.wait_for(shop.platform.was_asked.wait(), 5)
    purchase_id = shop.platform.asked[0].purchase_id
    await shop.do(RefundCharge(M1, "pi_1", "r[0]@1", purchase_id))

    shop.platform.open.set()
    reply = await asked

    assert (reply.status, reply.code) == (502, "PLATFORM_ERROR")
    assert len(shop.platform.asked) == 1


async def ask_all(nodes: list[Node], path: str, body: Any, key: str, copies: int) -> list[Reply]:
    return list(
        await asyncio.gather(
            *(
                nodes[number % len(nodes)].post(path, SHOP, body, Idempotency_Key=key)
                for number in range(copies)
            )
        )
    )


@pytest.mark.parametrize(("path", "body"), [(TRIALS, None), (PURCHASES, BUY)])
async def test_fifty_copies_at_once_get_one_answer(shop: Cluster, path: str, body: Any) -> None:
    replies = await ask_all(shop.nodes, path, body, "k", 50)
    later = await ask_all(shop.nodes, path, body, "k", 2)

    assert {reply.status for reply in replies} == {201}
    assert len({reply.without_ids for reply in replies + later}) == 1
    assert [reply.replayed for reply in replies].count(False) == 1
    assert all(reply.replayed for reply in later)
    assert len(shop.events("trial.started")) == (path == TRIALS)
    assert len(shop.platform.asked) == (path == PURCHASES)


async def test_a_key_gets_the_same_refusal_again(shop: Cluster) -> None:
    await shop.nodes[0].post(TRIALS, SHOP)
    shop.platform.errors = [no_checkout("shopify refuses our credentials")]

    used = await ask_all(shop.nodes, TRIALS, None, "t", 4)
    failed = await ask_all(shop.nodes, PURCHASES, BUY, "p", 10)

    assert {reply.status for reply in used} == {409}
    assert {reply.status for reply in failed} == {502}
    assert len({reply.without_ids for reply in used}) == 1
    assert len({reply.without_ids for reply in failed}) == 1
    assert [reply.replayed for reply in used + failed].count(False) == 2


async def test_the_same_key_with_other_parameters_is_a_conflict(shop: Cluster) -> None:
    first = await shop.nodes[0].post(PURCHASES, SHOP, BUY, Idempotency_Key="k")

    for body in ({**BUY, "pack": "large"}, {**BUY, "return_url": "https://app.example/other"}):
        reply = await shop.nodes[1].post(PURCHASES, SHOP, body, Idempotency_Key="k")
        assert (reply.status, reply.code) == (409, "IDEMPOTENCY_KEY_REUSED")
        assert not reply.replayed
    trial = await shop.nodes[1].post(TRIALS, SHOP, Idempotency_Key="k")
    assert (trial.status, trial.code) == (409, "IDEMPOTENCY_KEY_REUSED")
    assert first.status == 201


async def test_a_key_in_the_header_and_one_in_the_body_are_the_same_thing(shop: Cluster) -> None:
    key = str(uuid.uuid4())

    one = await shop.nodes[0].post(PURCHASES, SHOP, BUY, Idempotency_Key=key)
    other = await shop.nodes[1].post(PURCHASES, SHOP, {**BUY, "idempotency_key": key})
    unlike = await shop.nodes[0].post(
        PURCHASES, SHOP, {**BUY, "idempotency_key": "another"}, Idempotency_Key=key
    )

    assert one.without_ids == other.without_ids
    assert (unlike.status, unlike.code) == (422, "VALIDATION_ERROR")


async def test_the_callers_own_ids_are_sent_back_with_a_repeated_answer(shop: Cluster) -> None:
    first = await shop.nodes[0].post(TRIALS, SHOP, Idempotency_Key="k", X_Request_ID="r-1")
    second = await shop.nodes[0].post(TRIALS, SHOP, Idempotency_Key="k", X_Request_ID="r-2")

    assert first.data == second.data
    assert [r.body["meta"]["request_id"] for r in (first, second)] == ["r-1", "r-2"]
    assert first.body["meta"]["timestamp"] == second.body["meta"]["timestamp"]


async def test_keys_of_two_merchants_have_nothing_to_do_with_each_other(shop: Cluster) -> None:
    await shop.create(M2, "two.example")

    one = await shop.nodes[0].post(TRIALS, SHOP, Idempotency_Key="k")
    two = await shop.nodes[0].post(TRIALS, "two.example", Idempotency_Key="k")

    assert (one.status, two.status) == (201, 201)
    assert one.body["meta"]["request_id"] != two.body["meta"]["request_id"]


async def test_a_command_of_another_way_and_one_over_http_are_one_history(shop: Cluster) -> None:
    await shop.do(StartTrial(M1, "k", "c[0]@1"))

    reply = await shop.nodes[0].post(TRIALS, SHOP, Idempotency_Key="k")

    assert reply.status == 201
    assert len(shop.events("trial.started")) == 1
