"""A shop that uninstalls and is erased: signed webhooks, a real worker and a real broker."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.dead_letters.stage import Stage, stage
from tests.support import signed_webhooks as sent
from tests.support.nodes import get
from tests.support.signed_webhooks import SECRETS, Signed
from tests.support.world import M1, M2

pytestmark = pytest.mark.timeout(240)

BECAUSE = ("--because", "ticket 4712", "--by", "anna@ops", "--yes")


def shop_of(merchant: str) -> str:
    return f"{merchant[:13]}.example"


def at_time(**after: float) -> str:
    return (datetime.now(UTC) + timedelta(**after)).isoformat()


async def post(at: Stage, *webhooks: Signed) -> list[bool]:
    """Whether the worker accepted each webhook."""
    replies = [
        await get(at.worker.url, one.path, one.headers, method="POST", data=one.body)
        for one in webhooks
    ]
    return [reply.data["accepted"] for reply in replies]


async def test_an_uninstall_and_an_erasure_over_http(kafka: str, prefix: str, folder: Path) -> None:
    async with stage(kafka, prefix, folder, **SECRETS) as at:
        for merchant in (M2, M1):
            await at.create(merchant)
        # Shops are registered on partitions of their own.
        await at.quiet()
        await at.charged(M1, "c-1")
        when = at_time()
        uninstalled = sent.uninstalled(shop_of(M1), when)
        accepted = await post(
            at,
            uninstalled,
            uninstalled,
            # Before it was installed; and no merchant has the shop.
            sent.uninstalled(shop_of(M2), at_time(days=-9)),
            sent.uninstalled("nobody.example", when),
        )
        await at.quiet()
        before = await at.audit.events()
        # It was received without a time: an operator decides.
        undated = await post(at, sent.redact(shop_of(M1), ""))
        (letter,) = (one.letter for one in await at.letters(1))
        redriven = await at.dlq("redrive", f"{letter.partition}@{letter.offset}", *BECAUSE)
        await at.quiet()
        after = await at.audit.events()
        report = await at.verify()

    assert accepted == [True, True, True, False]
    assert [event["data"]["merchant_id"] for event in before["merchant.uninstalled"]] == [M1]
    (expired,) = before["purchase.expired"]
    assert (expired["data"]["merchant_id"], expired["data"]["reason"]) == (M1, "uninstalled")
    assert undated == [True]
    assert letter.record.reason.startswith("the header X-Shopify-Triggered-At")
    assert redriven[0] == 0, redriven
    assert [event["data"]["merchant_id"] for event in after["merchant.forgotten"]] == [M1]
    assert report.ok, "\n".join(report.lines())
