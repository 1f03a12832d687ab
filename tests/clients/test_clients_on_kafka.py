"""What a client developer does: a generated client buys, consumers in Java and Node read events."""

import asyncio
import importlib
import json
import sys
import time
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from billing_stream.records import topics
from billing_stream.records.topics import Topics
from tests.clients.tools import ROOT, generated_client, run_java, run_node
from tests.support.audit import Audit
from tests.support.shop import create_merchants, shop
from tests.support.tokens import client_token
from tests.support.worker import Worker, create_topics, environment, worker

M1 = "11111111-1111-4111-8111-111111111111"
SHOP = "one.example"
TOPICS = [topics.event_type("trial.started"), topics.event_type("credits.purchased")]
SCHEMAS = ROOT / "docs" / "api" / "schemas"
MODELS_MAX = 80
WAIT_SECONDS = 30.0

pytestmark = [pytest.mark.full, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The generated package, which nothing else imports."""
    folder = tmp_path_factory.mktemp("generated")
    generated_client(folder)
    sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module("billing_client")
    finally:
        sys.path.remove(str(folder))


def part(client: ModuleType, name: str) -> Any:
    """A module of the generated package."""
    return importlib.import_module(f"{client.__name__}.{name}")


def test_generated_client_has_a_model_for_each_name(client: ModuleType) -> None:
    assert client.__file__ is not None
    models = {path.stem for path in (Path(client.__file__).parent / "models").glob("*.py")}

    assert len(models) <= MODELS_MAX
    assert {"error_response", "purchase_response", "platform", "code", "rule"} <= models
    # Of schemas without a name.
    assert not {name for name in models if "response_4" in name or "type_0" in name}


def buy(client: ModuleType, url: str) -> dict[str, Any]:
    """Start a trial, buy a pack and pay, with nothing but the generated client."""
    models = part(client, "models")
    api = client.AuthenticatedClient(
        base_url=url, token=client_token(SHOP), raise_on_unexpected_status=True
    )
    shop_headers = {"x_shop_platform": "shopify", "x_shop_domain": SHOP}
    calls = {
        name: part(client, f"api.{tag}.{name}").sync_detailed
        for tag, name in [
            ("trials", "start_trial"),
            ("purchases", "list_packs"),
            ("purchases", "open_purchase"),
            ("purchases", "get_purchase"),
            ("purchases", "list_purchases"),
            ("billing", "get_billing"),
        ]
    }
    with api:
        started = calls["start_trial"](
            client=api, body=models.StartTrialBody(), **shop_headers
        ).parsed.data
        packs = calls["list_packs"](client=api, **shop_headers).parsed.data
        body = models.BuyBody(
            pack=packs[0].pack,
            platform=models.Platform.SHOPIFY,
            return_url="https://shop.example/back",
        )
        opened = calls["open_purchase"](
            client=api, body=body, idempotency_key="order-1", **shop_headers
        )
        again = calls["open_purchase"](
            client=api, body=body, idempotency_key="order-1", **shop_headers
        )
        body.pack = "none"
        refused = calls["open_purchase"](client=api, body=body, **shop_headers)
        checkout = opened.parsed.data
        httpx.post(checkout.checkout_url, data={"action": "pay"}).raise_for_status()
        found = calls["get_purchase"](str(checkout.purchase_id), client=api, **shop_headers)
        end = time.monotonic() + WAIT_SECONDS
        while found.parsed.data.status is not models.PurchaseStatus.COMPLETED:
            assert time.monotonic() < end, found
            found = calls["get_purchase"](str(checkout.purchase_id), client=api, **shop_headers)
        listed = calls["list_purchases"](client=api, limit=1, **shop_headers).parsed
        billing = calls["get_billing"](client=api, **shop_headers).parsed.data
    assert isinstance(checkout.purchase_id, uuid.UUID)
    assert opened.headers["Location"] == f"/api/billing/purchases/{checkout.purchase_id}"
    assert again.parsed.data == checkout
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (refused.status_code, refused.parsed.error.code) == (422, models.Code.INVALID_PACK)
    (wrong,) = refused.parsed.error.details
    assert (wrong.field, wrong.rule) == ("pack", models.Rule.CHOICE)
    assert packs[0].pack in wrong.message
    assert (started.credits_granted, billing.credits_purchased) == (500, packs[0].credits_)
    assert (listed.pagination.total, listed.data[0].id) == (1, checkout.purchase_id)
    return {"credits": packs[0].credits_, "amount": packs[0].amount}


async def test_generated_client_buys_and_java_and_node_read_the_events(
    client: ModuleType, kafka: str, prefix: str, folder: Path
) -> None:
    env = environment(kafka, prefix)
    await create_topics(env)
    await create_merchants(kafka, prefix, {M1: SHOP})
    started: Worker
    async with worker(env, folder) as started, shop(SHOP, started):
        bought = await asyncio.to_thread(buy, client, started.url)
    committed = await Audit(kafka, Topics("billing-stream", prefix)).events()
    ids = {event["event_id"] for found in committed.values() for event in found}

    by_java, by_node = await asyncio.gather(
        asyncio.to_thread(run_java, "Consumer", kafka, prefix, *TOPICS),
        asyncio.to_thread(
            partial(run_node, "consumer.mjs", kafka, prefix, str(len(ids)), SCHEMAS, *TOPICS),
        ),
    )

    read = [
        sorted(map(json.loads, text.splitlines()), key=lambda event: event["sequence"])
        for text in (by_java, by_node)
    ]
    assert read[0] == read[1]
    assert {event["id"] for event in read[0]} == ids
    assert [{name: event[name] for name in event if name != "id"} for event in read[0]] == [
        {
            "type": TOPICS[0],
            "key": M1,
            "sequence": 1,
            "credits": 500,
            "amount": None,
            "platform": None,
        },
        {"type": TOPICS[1], "key": M1, "sequence": 2, "platform": "shopify", **bought},
    ]
