"""Invalid webhooks over HTTP, into a real worker and a real broker: kept, redriven, verified."""

import json
from pathlib import Path

import pytest

from billing_stream.engine.partitioner import partition_of
from billing_stream.records import topics as names
from tests.dead_letters.stage import PARTITIONS, Stage, stage
from tests.support import signed_webhooks as sent
from tests.support.audit import read_committed
from tests.support.nodes import get
from tests.support.signed_webhooks import SECRETS, Signed
from tests.support.world import M1, M2

pytestmark = pytest.mark.timeout(240)

BECAUSE = ("--because", "ticket 4712", "--by", "anna@ops", "--yes")
SHOP_OF_M2 = f"{M2[:13]}.example"
REFUND = {"kind": "refunded", "charge_id": "c-1", "merchant_id": M1}
CHARGE = {"id": "ch_1", "payment_intent": "c-1", "amount_refunded": 999, "currency": 5}


async def post(at: Stage, webhook: Signed) -> bool:
    """Whether the worker took a webhook as one to be read."""
    reply = await get(
        at.worker.url, webhook.path, webhook.headers, method="POST", data=webhook.body
    )
    return bool(reply.data["accepted"])


async def letter(at: Stage, source: str) -> str:
    """The name of the dead letter of a platform's webhook."""
    found = await at.letters(3)
    (one,) = (each.letter for each in found if each.letter.source.startswith(source))
    return f"{one.partition}@{one.offset}"


async def test_invalid_webhooks_are_redriven_as_what_they_are(
    kafka: str, prefix: str, folder: Path
) -> None:
    value = folder / "value.json"
    async with stage(kafka, prefix, folder, **SECRETS) as at:
        await at.create(M1)
        await at.charged(M1, "c-1")
        assert await post(at, sent.custom({**REFUND, "kind": "updated", "status": "active"}))
        await at.until(lambda: at.credits(M1))
        for _ in range(2):
            assert await post(at, sent.custom({**REFUND, "amount": "x"}))
            assert await post(at, sent.shopify(sent.charge("c-2"), SHOP_OF_M2))
        metadata = {"metadata": {"merchant_id": M1}}
        assert await post(at, sent.stripe(sent.event("charge.refunded", {**CHARGE, **metadata})))
        # It waited for its charge in vain.
        waited = at.topics.name(names.CHARGES)
        refund, payment = await letter(at, "http:custom/"), await letter(at, waited)
        event = await letter(at, "http:stripe/evt_1")

        listed = await at.dlq("list", "--topic", "http:custom", "--merchant", M1)
        shown = await at.dlq("show", event, "--value-to", str(value))
        too_early = [await at.dlq("redrive", name, *BECAUSE) for name in (refund, payment)]
        await at.create(M2)
        await at.charged(M2, "c-2")
        await at.quiet()
        paid = await at.dlq("redrive", payment, *BECAUSE)
        corrected = value.read_text().replace('"currency": 5', '"currency": "usd"')
        value.write_text(corrected.replace('"amount_refunded": 999', '"amount_refunded": 500'))
        in_part = await at.dlq("redrive", event, "--edit", str(value), *BECAUSE)
        value.write_text(json.dumps({"charge_id": "c-1", "merchant_id": M1, "amount": 9.99}))
        whole = await at.dlq("redrive", refund, "--edit", str(value), *BECAUSE)
        await at.quiet()
        balances = [await at.credits(M1), await at.credits(M2)]
        events = (await at.audit.events())["purchase.refunded"]
        letters = await read_committed(kafka, [at.cluster.letters])
        webhooks = [at.topics.name(t) for t in (names.PURCHASE_UPDATED, names.PURCHASE_REFUNDED)]
        inputs = await read_committed(kafka, webhooks)
        report = await at.verify()

    assert "`amount` must be a decimal number" in listed[1], listed
    assert "http:stripe/evt_1" in shown[1]
    assert "`data.object.currency` must be text, not a whole number" in shown[1]
    assert [code for code, _ in too_early] == [1, 1], too_early
    assert "`amount` must be a decimal number" in too_early[0][1]
    assert "no purchase has the charge" in too_early[1][1]
    assert [paid[0], in_part[0], whole[0]] == [0, 0, 0], (paid, in_part, whole)
    assert f"refund_charge of merchant {M1}" in whole[1]
    assert balances == [0, 100]
    assert [event["data"]["credits"] for event in events] == [50, 50]
    assert {r.partition for r in letters if r.key == M1.encode()} == {partition_of(M1, PARTITIONS)}
    assert len(inputs) == 1, "only the valid webhook is on an input topic"
    assert report.ok, "\n".join(report.lines())
