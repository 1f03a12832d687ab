"""What a real worker did, as a real projector projected it, over HTTP."""

import asyncio
import time
from pathlib import Path

import httpx
import pytest

from tests.support.projection import projector
from tests.support.shop import create_merchants, shop
from tests.support.worker import create_topics, environment, worker

pytestmark = pytest.mark.timeout(180)

M1 = "11111111-1111-4111-8111-111111111111"
DOMAIN = "one.example"
PATH = "/api/billing/history"
PACK = {"pack": "small", "platform": "shopify", "return_url": "https://one.example/thanks"}


async def test_a_purchase_that_was_paid_stands_in_the_history_with_its_cause(
    kafka: str, prefix: str, folder: Path, postgres_url: str
) -> None:
    env = environment(kafka, prefix, DATABASE_URL=postgres_url)
    await create_topics(env)
    await create_merchants(kafka, prefix, {M1: DOMAIN})
    async with worker(env, folder) as running, shop(DOMAIN, running) as client:
        early = await client.ask("GET", PATH)
        await client.insist("POST", "/api/billing/trials")
        opened = (await client.insist("POST", "/api/billing/purchases", PACK)).data
        async with httpx.AsyncClient() as browser:
            await browser.post(opened["checkout_url"], data={"action": "pay"})
        await client.until_status(opened["purchase_id"], "completed")
        async with projector(env, folder):
            end = time.monotonic() + 90
            while True:
                reply = await client.ask("GET", PATH)
                if reply.status == 200 and len(reply.data) == 2:
                    break
                assert time.monotonic() < end, (reply.body, _tail(folder))
                await asyncio.sleep(0.2)
        afterwards = await client.ask("GET", PATH)

    assert early.status == 503
    assert afterwards.data == reply.data
    paid, trial = reply.data
    assert (paid["type"], trial["type"]) == (
        "evt.billing.credits.purchased.v1",
        "evt.billing.trial.started.v1",
    )
    assert (paid["credits"], paid["balance_after"], trial["credits"]) == (100, 100, 0)
    assert paid["purchase_id"] == opened["purchase_id"]
    assert paid["cause"] == {"origin": "webhook"}
    assert trial["cause"]["origin"] == "http"


def _tail(folder: Path) -> str:
    return (folder / "projector.log").read_text(errors="replace")[-2000:]
