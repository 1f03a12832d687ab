"""A worker of 0.5.x beside a new one: both answer for the partitions of the other."""

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import jwt
import pytest
import pytest_asyncio

from billing_stream.engine.partitioner import partition_of
from billing_stream.web.commands import CommandRequest, parse_asked
from billing_stream.web.envelope import ApiError, WebCode
from billing_stream.web.peer_tokens import Call
from billing_stream.web.refusals import Credential
from tests.support.nodes import PARTITIONS, Cluster, Node, cluster, get
from tests.support.tokens import old_worker_headers, operator_headers
from tests.support.worker import INTERNAL_SECRET
from tests.web.conftest import M1, M2

SHOPS = {M1: "one.example", M2: "two.example"}
BUY = {"pack": "small", "platform": "shopify", "return_url": "https://one.example/done"}
ADJUSTMENTS = "/internal/adjustments"


def verified_by_0_5(headers: Mapping[str, str], call: Call) -> Call:
    """What 0.5.1 demanded of a token; what the request asked for was then done."""
    try:
        jwt.decode(
            headers.get("Authorization", "").removeprefix("Bearer "),
            INTERNAL_SECRET,
            algorithms=["HS256"],
            leeway=30,
            audience="billing-stream/internal",
            options={"require": ["exp", "aud"]},
        )
    except jwt.PyJWTError:
        raise ApiError(WebCode.UNAUTHORIZED, "the token is not valid") from None
    asked: CommandRequest | None = parse_asked(call.body) if call.body else None
    return Call(
        call.address, call.method, call.target, call.body, asked.operator if asked else None
    )


def make_old(node: Node, patch: pytest.MonkeyPatch) -> None:
    """Let a worker make and verify tokens as one of 0.5.1."""
    client: Any = node.context.peers._client
    sent = client._headers

    def headers(call: Call, ids: Any) -> dict[str, str]:
        return {**sent(call, ids), **old_worker_headers()}

    patch.setattr(client, "_headers", headers)
    patch.setattr(node.context.peer_calls, "verify", verified_by_0_5)


# A worker each.
OWNED = {0: [0, 1, 2, 3], 1: [partition_of(M2, PARTITIONS)]}
OWNED[0].remove(*OWNED[1])


@pytest_asyncio.fixture
async def mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    """An old worker and a new one, and a merchant with its shop on each."""
    async with cluster(str(tmp_path), OWNED) as found:
        make_old(found.nodes[0], monkeypatch)
        for merchant, domain in SHOPS.items():
            await found.create(merchant, domain)
        yield found


OLD_TO_NEW, NEW_TO_OLD = (0, 1), (1, 0)


@pytest.mark.parametrize("way", [OLD_TO_NEW, NEW_TO_OLD])
async def test_clients_are_served_through_either_worker(
    mixed: Cluster, way: tuple[int, int]
) -> None:
    asked, merchant = mixed.nodes[way[0]], (M1, M2)[way[1]]
    shop = SHOPS[merchant]

    assert (await asked.get("/api/billing", shop)).data["trial"]["available"]
    assert (await asked.post("/api/billing/trials", shop)).data["success"]
    bought = (await asked.post("/api/billing/purchases", shop, BUY)).data
    listed = (await asked.get("/api/billing/purchases", shop)).data

    assert [one["id"] for one in listed] == [bought["purchase_id"]]
    assert [one["merchant_id"] for one in mixed.events("trial.started")] == [merchant]
    assert mixed.nodes[way[0]].context.peers.warnings() == []


async def adjust(asked: Node, merchant: str) -> Any:
    body = {"merchant_id": merchant, "credits": 5, "reason": "r", "idempotency_key": "k"}
    return await get(asked.url, ADJUSTMENTS, operator_headers(), method="POST", json=body)


async def test_an_operator_is_served_by_an_old_owner_through_a_new_worker(mixed: Cluster) -> None:
    assert (await adjust(mixed.nodes[1], M1)).status == 201


@pytest.mark.logs_errors
async def test_an_old_worker_cannot_vouch_for_an_operator(mixed: Cluster) -> None:
    """Whoever has seen one of its tokens could claim to be any operator."""
    merchant = M2

    reply = await adjust(mixed.nodes[0], merchant)

    assert (reply.status, reply.code) == (503, "NOT_READY")
    assert mixed.events("credits.adjusted") == []
    labels = {"credential": Credential.ORIGIN.value, "route": "/internal/commands"}
    sample = mixed.nodes[1].metrics.registry.get_sample_value
    assert sample("billing_credentials_refused_total", labels) == 1
    assert (await adjust(mixed.nodes[1], merchant)).status == 201


@pytest.mark.parametrize("way", [OLD_TO_NEW, NEW_TO_OLD])
async def test_the_dashboard_has_the_figures_of_both(mixed: Cluster, way: tuple[int, int]) -> None:
    snapshot = await mixed.nodes[way[0]].context.dashboard.cluster()

    assert [worker.figures is not None for worker in snapshot.workers] == [True, True]


@pytest.mark.logs_errors
async def test_after_the_upgrade_workers_of_0_5_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = {1: {"BILLING_PEER_TOKENS": "new"}}
    async with cluster(str(tmp_path), OWNED, new) as found:
        make_old(found.nodes[0], monkeypatch)
        for merchant, domain in SHOPS.items():
            await found.create(merchant, domain)
        for asked, owner in (OLD_TO_NEW, NEW_TO_OLD):
            domain = SHOPS[(M1, M2)[owner]]
            reply = await found.nodes[asked].get("/api/billing", domain)
            assert (reply.status, reply.code) == (503, "NOT_READY")


@pytest.mark.parametrize("first", [0, 1])
async def test_the_last_step_is_taken_by_one_worker_after_the_other(
    tmp_path: Path, first: int
) -> None:
    new = {first: {"BILLING_PEER_TOKENS": "new"}}
    async with cluster(str(tmp_path), OWNED, new) as found:
        for merchant, domain in SHOPS.items():
            await found.create(merchant, domain)
        for node in found.nodes:
            for domain in SHOPS.values():
                assert (await node.post("/api/billing/trials", domain)).status in (201, 409)
                assert (await node.get("/api/billing", domain)).status == 200
            assert (await adjust(node, M1)).status == 201
        assert len(found.events("trial.started")) == 2
        assert json.dumps(found.events("credits.adjusted")).count(M1) == 1
