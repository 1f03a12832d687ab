"""Trials that operators extend: over HTTP, by the topic of operators, and on the dashboard."""

import re
from datetime import datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from billing_stream.domain.commands import StartTrial
from billing_stream.records import topics as names
from billing_stream.web.merchant_view import Origin, origin_of, shown
from tests.support.nodes import Cluster, Reply, get
from tests.support.partition import Partition, record
from tests.support.tokens import client_headers, operator_headers, operator_token
from tests.web.conftest import M1, M2

SHOP = "one.example"
PATH, CLOCK = "/internal/trial-extensions", "/internal/clock"
WEEK = {"merchant_id": M1, "days": 7, "reason": "fraud?", "idempotency_key": "key-1"}
DAY = timedelta(days=1)


async def post(two: Cluster, body: Any, node: int = 0, path: str = PATH, **headers: str) -> Reply:
    sent = {**operator_headers(), **headers}
    return await get(two.nodes[node].url, path, sent, method="POST", json=body)


async def trial(two: Cluster, node: int = 0) -> dict[str, Any]:
    return dict((await two.nodes[node].get("/api/billing/trials", SHOP)).data)


def time(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest_asyncio.fixture
async def shop(two: Cluster) -> Cluster:
    await two.create(M1, SHOP)
    await two.do(StartTrial(M1, command_id="trial"))
    return two


@pytest.mark.parametrize("asked", [0, 1])
async def test_a_trial_is_extended_from_any_worker(shop: Cluster, asked: int) -> None:
    before = await trial(shop)

    reply = await post(shop, WEEK | {"merchant_note": "Take your time"}, asked)

    assert reply.status == 201
    assert time(reply.data["ends_at"]) == time(before["ends_at"]) + 7 * DAY
    assert reply.data.keys() == {"ends_at"}
    for node in (0, 1):
        assert await trial(shop, node) == {**before, **reply.data}
    (event,) = shop.events("trial.extended")
    assert event["merchant_note"] == "Take your time"
    (published,) = shop.log.read(names.event_type("trial.extended"))
    assert b"fraud" not in (published.value or b"")
    (entry,) = [r for r in shop.log.read(names.JOURNAL) if b"extend_trial" in (r.value or b"")]
    assert b'"origin":"operator:olga"' in (entry.value or b"")


async def test_the_same_request_gets_the_same_answer_years_later(shop: Cluster) -> None:
    first = await post(shop, WEEK)
    await post(shop, {"merchant_id": M1, "forward": "3000d"}, path=CLOCK)

    again = await post(shop, WEEK, 1)

    assert (again.replayed, again.without_ids) == (True, first.without_ids)
    assert len(shop.events("trial.extended")) == 1


async def test_after_the_expiry_a_new_period_ends_by_an_event_of_its_own(shop: Cluster) -> None:
    await post(shop, {"merchant_id": M1, "forward": "20d"}, path=CLOCK)

    reply = await post(shop, WEEK)
    await post(shop, {"merchant_id": M1, "forward": "5d"}, path=CLOCK)
    await post(shop, {"merchant_id": M1, "forward": "3d"}, path=CLOCK)

    ends = [event["expired_at"] for event in shop.events("trial.expired")]
    assert ends[1:] == [reply.data["ends_at"]]
    assert [event["ends_at"] for event in shop.events("trial.ending")] == ends[1:]
    assert (await trial(shop))["active"] is False


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"days": 8}, 409, "IDEMPOTENCY_KEY_REUSED"),
        ({"days": None, "ends_at": "2020-01-01T00:00:00Z", "idempotency_key": "k"}, 422,
         "INVALID_TRIAL_END"),
        ({"merchant_id": M2}, 404, "MERCHANT_NOT_FOUND"),
        ({"days": 0}, 422, "VALIDATION_ERROR"),
        ({"days": 3654}, 422, "VALIDATION_ERROR"),
        ({"days": None}, 422, "VALIDATION_ERROR"),
        ({"ends_at": "2036-01-01T00:00:00Z"}, 422, "VALIDATION_ERROR"),
        ({"reason": ""}, 422, "VALIDATION_ERROR"),
        ({"idempotency_key": None}, 422, "VALIDATION_ERROR"),
        ({"whatever": 1}, 422, "VALIDATION_ERROR"),
    ],
)  # fmt: skip
async def test_what_is_refused_changes_nothing(
    shop: Cluster, change: dict[str, Any], status: int, code: str
) -> None:
    await post(shop, WEEK)
    before = await trial(shop)

    for node in (0, 1):
        reply = await post(shop, WEEK | change, node)
        assert (reply.status, reply.code) == (status, code)
    assert await trial(shop) == before


async def test_a_trial_that_never_started_cannot_be_extended(two: Cluster) -> None:
    await two.create(M1, SHOP)

    reply = await post(two, WEEK)

    assert (reply.status, reply.code) == (409, "TRIAL_NOT_EXTENDABLE")


async def test_clients_may_not_extend_a_trial(shop: Cluster) -> None:
    reply = await get(shop.nodes[0].url, PATH, client_headers(SHOP), method="POST", json=WEEK)

    assert reply.status == 401
    assert shop.events("trial.extended") == []


@pytest.mark.parametrize("cause", ["operator:alice", "billing.operator-commands.v1[0]@7"])
def test_a_merchant_reads_the_note_and_that_it_was_an_operator(cause: str) -> None:
    event_type = names.event_type("trial.extended")
    said = {"merchant_id": M1, "ends_at": "x", "extension_id": "e", "merchant_note": "Yes"}

    assert shown(event_type, {**said, "reason": "fraud?", "operator": "alice"}) == said
    assert origin_of(cause, event_type) is Origin.OPERATOR


async def test_an_extension_comes_by_the_topic_of_operators_only() -> None:
    partition = await Partition().restart()
    shop = {"merchant_id": M1, "platform_name": "shopify", "domain": SHOP}
    said = {"command": "extend_trial", **WEEK, "merchant_id": M1.upper()}
    await partition.feed(record(names.MERCHANT_CREATED, 0, shop))
    await partition.feed(record(names.COMMANDS, 0, {"command": "start_trial", "merchant_id": M1}))
    await partition.feed(record(names.COMMANDS, 1, said))

    await partition.feed(record(names.OPERATOR_COMMANDS, 0, said))

    (event,) = partition.events("trial.extended")
    ends_at = partition.processor.rows.merchants[M1].trial_ends_at
    assert ends_at == time(event["data"]["ends_at"])
    assert [letter["topic"] for letter in partition.dead_letters()] == [names.COMMANDS]


async def test_the_form_on_the_page_of_a_merchant_extends_once(shop: Cluster) -> None:
    url = shop.nodes[0].url

    async def ask(path: str, cookie: str = "", **form: str) -> Reply:
        headers = {"Accept": "text/html", "Cookie": cookie}
        method = "POST" if form else "GET"
        return await get(
            url, path, headers, method=method, data=form or None, allow_redirects=False
        )

    login = await ask("/ops/login", token=operator_token("olga"), next="/ops")
    cookie = login.headers["Set-Cookie"].partition(";")[0]
    page = f"/ops/merchants/{M1}"
    assert b"/extend-trial" in (await ask(page, cookie)).raw

    def hidden(reply: Reply) -> dict[str, str]:
        found = re.findall(rb'name="(csrf|key)" value="([^"]+)"', reply.raw)
        return {name.decode(): value.decode() for name, value in found}

    form = hidden(await ask(page + "/extend-trial", cookie))
    form |= {"days": "7", "reason": "ticket 1", "note": ""}

    asked = await ask(page + "/extend-trial", cookie, **form)
    assert b"Extend the trial by 7 days?" in asked.raw
    assert shop.events("trial.extended") == []
    form |= hidden(asked)
    for _ in range(2):
        done = await ask(page + "/extend-trial", cookie, **form, confirmed="yes")
        assert (done.status, done.headers["Location"]) == (303, f"{page}?done=extended")

    assert len(shop.events("trial.extended")) == 1
    assert b"ticket 1" in (await ask(page, cookie)).raw
    wrong = await ask(page + "/extend-trial", cookie, **form | {"days": "0"})
    assert wrong.status == 422
