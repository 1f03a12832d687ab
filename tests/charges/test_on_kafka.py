"""Charges on a real worker and a real Kafka: moved shops, a kill, a second claim, verified."""

import json
from pathlib import Path

import pytest

from billing_stream.records import topics as names
from tests.dead_letters.stage import Stage, stage
from tests.support import signed_webhooks as sent
from tests.support.audit import read_committed
from tests.support.nodes import get
from tests.support.signed_webhooks import SECRETS
from tests.support.worker import worker
from tests.support.world import M1, M2, NOBODY

pytestmark = pytest.mark.timeout(240)

SHOP_1, SHOP_2 = f"{M1[:13]}.example", f"{M2[:13]}.example"
M3 = NOBODY


async def pay(at: Stage, charge: str, shop: str) -> None:
    """Have Shopify's webhook come."""
    webhook = sent.shopify(sent.charge(charge), shop, delivery=None)
    url = at.worker.url
    reply = await get(url, webhook.path, webhook.headers, method="POST", data=webhook.body)
    assert reply.data == {"accepted": True}


async def test_payments_find_their_purchases_whoever_has_the_shop(
    kafka: str, prefix: str, folder: Path
) -> None:
    again = folder / "again"
    again.mkdir()
    limits = {"BILLING_EARLY_WEBHOOK_EXPIRY": "1h"}
    async with stage(kafka, prefix, folder, **SECRETS, **limits) as at:
        for merchant, charge in ((M1, "c-1"), (M2, "c-2")):
            await at.create(merchant)
            await at.charged(merchant, charge)
        await at.command(M1, "forget_merchant")
        await at.command(M3, "create_merchant", platform="shopify", domain=SHOP_2)
        await at.quiet()
        await pay(at, "c-1", SHOP_1)
        await pay(at, "c-2", SHOP_2)
        await pay(at, "c-3", "renamed.example")
        await at.quiet()
        await at.worker.kill()
        async with worker(at.env, again) as at.worker:
            await at.charged(M2, "c-3")
            await at.charged(M3, "c-2")
            (taken,) = await at.letters(1)
            await at.quiet()
            credits = [await at.credits(merchant) for merchant in (M1, M2, M3)]
            charges = await read_committed(kafka, [at.topics.name(names.CHARGES)])
            report = await at.verify()

    assert credits == [100, 200, 0]
    assert taken.letter.record.reason.startswith("CHARGE_TAKEN: the charge 'c-2' is that of")
    last = {record.key: json.loads(record.value) for record in charges}
    owners = {key: said["merchant_id"] for key, said in last.items() if "purchase_id" in said}
    assert owners == {b"shopify:c-1": M1, b"shopify:c-2": M2, b"shopify:c-3": M2}
    assert report.ok, "\n".join(report.lines())
