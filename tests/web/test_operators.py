"""Credits given or taken by operators, and the test clock, over HTTP."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from billing_stream.domain.commands import CreateMerchant, ForgetMerchant, StartTrial
from billing_stream.records import topics as names
from tests.support.nodes import Cluster, Node, Reply, cluster, get
from tests.support.production import PRODUCTION
from tests.support.tokens import client_headers, old_worker_headers, operator_headers
from tests.support.worker import CLIENT_SECRET
from tests.web.conftest import M1, M2

SHOP = "one.example"
ADJUSTMENTS = "/internal/adjustments"
CLOCK = "/internal/clock"
GIFT = {"merchant_id": M1, "credits": 25, "reason": "a gift", "idempotency_key": "gift-1"}
DAY = timedelta(days=1)
both = pytest.mark.parametrize("asked", [0, 1])


async def post(node: Node, path: str, body: Any, **headers: str) -> Reply:
    sent = {**operator_headers(), **{name.replace("_", "-"): v for name, v in headers.items()}}
    return await get(node.url, path, sent, method="POST", json=body)


@pytest_asyncio.fixture
async def shop(two: Cluster) -> Cluster:
    await two.create(M1, SHOP)
    return two


@both
async def test_credits_are_given_from_any_worker_and_read_from_any_at_once(
    shop: Cluster, asked: int
) -> None:
    await shop.buy(M1, 1)

    reply = await post(shop.nodes[asked], ADJUSTMENTS, GIFT)

    assert reply.status == 201
    (event,) = shop.events("credits.adjusted")
    assert reply.data == {
        "adjustment_id": event["adjustment_id"],
        "merchant_id": M1,
        "credits": 25,
        "balance": 125,
    }
    assert (event["credits"], event["reason"]) == (25, "a gift")
    for node in shop.nodes:
        billing = (await node.get("/api/billing", SHOP)).data
        assert (billing["credits_purchased"], billing["credits_adjusted"]) == (100, 25)


@both
async def test_the_record_says_who_it_was(shop: Cluster, asked: int) -> None:
    await post(shop.nodes[asked], ADJUSTMENTS, GIFT, X_Correlation_ID="ticket-7")

    (entry,) = [r for r in shop.log.read(names.JOURNAL) if b"adjust_credits" in (r.value or b"")]
    assert b'"origin":"operator:olga"' in (entry.value or b"")
    assert b'"correlation_id":"ticket-7"' in (entry.value or b"")
    (event,) = shop.log.read(names.event_type("credits.adjusted"))
    assert ("cause", b"operator:olga") in event.headers


async def test_the_same_request_gets_the_same_answer_whatever_worker_is_asked(
    shop: Cluster,
) -> None:
    replies = [await post(node, ADJUSTMENTS, GIFT) for node in [*shop.nodes, *shop.nodes]]
    headed = {name: value for name, value in GIFT.items() if name != "idempotency_key"}
    replies.append(await post(shop.nodes[0], ADJUSTMENTS, headed, Idempotency_Key="gift-1"))

    assert len({reply.without_ids for reply in replies}) == 1
    assert [reply.replayed for reply in replies] == [False, True, True, True, True]
    assert len(shop.events("credits.adjusted")) == 1


async def test_years_later_it_is_still_the_same_adjustment(shop: Cluster) -> None:
    first = await post(shop.nodes[0], ADJUSTMENTS, GIFT)
    await post(shop.nodes[0], CLOCK, {"merchant_id": M1, "forward": "3000d"})

    again = await post(shop.nodes[1], ADJUSTMENTS, GIFT)

    assert again.without_ids == first.without_ids
    assert len(shop.events("credits.adjusted")) == 1


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"credits": 26}, 409, "IDEMPOTENCY_KEY_REUSED"),
        ({"credits": -26, "idempotency_key": "k"}, 409, "INSUFFICIENT_CREDITS"),
        ({"merchant_id": M2}, 404, "MERCHANT_NOT_FOUND"),
        ({"credits": 0}, 422, "VALIDATION_ERROR"),
        ({"credits": 1_000_001}, 422, "VALIDATION_ERROR"),
        ({"credits": 2.5}, 422, "VALIDATION_ERROR"),
        ({"reason": ""}, 422, "VALIDATION_ERROR"),
        ({"reason": "a\u0000b"}, 422, "VALIDATION_ERROR"),
        ({"idempotency_key": None}, 422, "VALIDATION_ERROR"),
        ({"merchant_id": "1"}, 422, "VALIDATION_ERROR"),
        ({"whatever": 1}, 422, "VALIDATION_ERROR"),
    ],
)
async def test_what_is_refused_changes_nothing(
    shop: Cluster, change: dict[str, Any], status: int, code: str
) -> None:
    await post(shop.nodes[0], ADJUSTMENTS, GIFT)

    for node in shop.nodes:
        reply = await post(node, ADJUSTMENTS, {**GIFT, **change})
        assert (reply.status, reply.code) == (status, code)
    assert len(shop.events("credits.adjusted")) == 1
    assert (await shop.nodes[0].get("/api/billing", SHOP)).data["credits_adjusted"] == 25


@pytest.mark.parametrize(
    ("made", "status"),
    # Made when the test runs: what is made when it is collected may have expired by then.
    [
        (dict, 401),
        (lambda: old_worker_headers(), 401),
        (lambda: client_headers(SHOP), 401),
        (lambda: operator_headers(secret=CLIENT_SECRET), 401),
        (lambda: operator_headers(exp=1), 401),
        (lambda: operator_headers(exp=None), 401),
        (lambda: operator_headers(aud="billing-stream/internal"), 401),
        (lambda: operator_headers(sub=None), 401),
        (lambda: operator_headers("o\nlga"), 401),
        (lambda: operator_headers(scope="bff:api:access"), 403),
    ],
)
@pytest.mark.parametrize("path", [ADJUSTMENTS, CLOCK])
async def test_nobody_but_an_operator_is_let_in(
    shop: Cluster, path: str, made: Callable[[], dict[str, str]], status: int
) -> None:
    reply = await get(shop.nodes[0].url, path, made(), method="POST", json=GIFT)

    assert reply.status == status
    assert shop.events("credits.adjusted") == []


async def test_an_operator_is_none_of_our_workers(shop: Cluster) -> None:
    for path in ("/internal/commands", "/internal/queries"):
        method = "GET" if path.endswith("queries") else "POST"
        reply = await get(shop.nodes[0].url, path, operator_headers(), method=method)
        assert reply.status == 401


@both
async def test_a_trial_is_seen_through_from_any_worker(shop: Cluster, asked: int) -> None:
    await shop.do(StartTrial(M1))

    reply = await post(shop.nodes[asked], CLOCK, {"merchant_id": M1, "forward": "14d"})

    assert reply.status == 200
    assert len(shop.events("trial.expired")) == 1
    for node in shop.nodes:
        assert (await node.get("/api/billing/trials", SHOP)).data["active"] is False


async def test_who_asks_twice_to_go_forward_is_further_ahead(shop: Cluster) -> None:
    begin = datetime.now(UTC)
    for node in shop.nodes:
        reply = await post(node, CLOCK, {"merchant_id": M1, "forward": "5d"})

    now = datetime.fromisoformat(reply.data["now"])
    assert begin + 10 * DAY <= now <= datetime.now(UTC) + 10 * DAY


async def test_a_clock_set_to_a_moment_is_there_however_often(shop: Cluster) -> None:
    to = (datetime.now(UTC) + 3 * DAY).isoformat()
    for node in shop.nodes:
        reply = await post(node, CLOCK, {"merchant_id": M1, "to": to})
        assert datetime.fromisoformat(reply.data["now"]) == datetime.fromisoformat(to)

    entries = [r for r in shop.log.read(names.JOURNAL) if b"move_clock" in (r.value or b"")]
    assert len(entries) == 1


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"merchant_id": M1}, 422, "VALIDATION_ERROR"),
        ({"merchant_id": M1, "to": "2030-01-01T00:00:00Z", "forward": "1d"}, 422, None),
        ({"merchant_id": M1, "to": "2030-01-01T00:00:00"}, 422, "VALIDATION_ERROR"),
        ({"merchant_id": M1, "forward": "-1d"}, 422, "VALIDATION_ERROR"),
        ({"merchant_id": M1, "forward": "999999999d"}, 422, "VALIDATION_ERROR"),
        ({"merchant_id": M1, "forward": "3700d"}, 422, "CLOCK_REFUSED"),
        ({"merchant_id": M1, "to": "9999-12-31T23:59:59Z"}, 422, "CLOCK_REFUSED"),
        ({"merchant_id": M2, "forward": "1d"}, 404, "MERCHANT_NOT_FOUND"),
        ({"merchant_id": M2, "to": "2030-01-01T00:00:00Z"}, 404, "MERCHANT_NOT_FOUND"),
    ],
)
async def test_a_clock_that_cannot_be_moved_stays(
    shop: Cluster, body: dict[str, Any], status: int, code: str | None
) -> None:
    for node in shop.nodes:
        reply = await post(node, CLOCK, body)
        assert (reply.status, reply.code) == (status, code or "VALIDATION_ERROR")
    assert not [r for r in shop.log.read(names.JOURNAL) if b"move_clock" in (r.value or b"")]


async def test_two_hundred_trials_are_seen_through_at_once(two: Cluster) -> None:
    merchants = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(200)]
    for kind in (lambda m: CreateMerchant(m, "shopify", f"{m}.example"), StartTrial):
        await asyncio.gather(*(two.ask(kind(merchant)) for merchant in merchants))

    to = (datetime.now(UTC) + 15 * DAY).isoformat()

    async def see_through(number: int) -> None:
        body = {"merchant_id": merchants[number], "to": to}
        for _ in range(20):
            reply = await post(two.nodes[number % 2], CLOCK, body)
            if reply.status not in (503, 504):
                break
        assert reply.status == 200

    began = time.monotonic()
    await asyncio.gather(*(see_through(number) for number in range(200)))
    print(f"200 trials in {time.monotonic() - began:.2f} s")

    ended = [event["merchant_id"] for event in two.events("trial.expired")]
    assert sorted(ended) == sorted(merchants)


@pytest_asyncio.fixture
async def production(tmp_path: Path) -> AsyncIterator[Cluster]:
    """A worker as in staging."""
    real = {**PRODUCTION, "APP_ENV": "staging"}
    async with cluster(str(tmp_path), {0: [0, 1, 2, 3]}, **real) as found:
        await found.create(M1, SHOP)
        yield found


async def test_there_is_no_clock_to_be_moved_in_staging(production: Cluster) -> None:
    token = operator_headers(secret=PRODUCTION["INTERNAL_JWT_SECRET"])
    url, moved = production.nodes[0].url, {"merchant_id": M1, "forward": "14d"}

    reply = await get(url, CLOCK, token, method="POST", json=moved)

    assert (reply.status, reply.code) == (404, "NOT_FOUND")
    assert (await get(url, ADJUSTMENTS, token, method="POST", json=GIFT)).status == 201


async def test_a_forgotten_merchant_is_not_found_by_its_shop_any_more(shop: Cluster) -> None:
    await shop.do(CreateMerchant(M1, "shopify", "two.example"))
    for domain in (SHOP, "two.example"):
        assert (await shop.owner(f"shopify:{domain}").get("/api/billing", domain)).status == 200

    await shop.do(ForgetMerchant(M1))

    for domain in (SHOP, "two.example"):
        reply = await shop.owner(f"shopify:{domain}").get("/api/billing", domain)
        assert (reply.status, reply.code) == (404, "MERCHANT_NOT_FOUND")


async def test_a_shop_that_is_anothers_by_now_stays_so(shop: Cluster) -> None:
    await shop.create(M2, SHOP)

    await shop.do(ForgetMerchant(M1))

    assert (await shop.owner(f"shopify:{SHOP}").get("/api/billing", SHOP)).status == 200
