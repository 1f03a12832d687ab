"""Shops on a real worker and a real Kafka: told late, taken, redriven, verified."""

import json
from pathlib import Path
from typing import Any

import pytest

from billing_stream.records import topics as names
from tests.dead_letters.stage import Stage, stage
from tests.support.audit import read_committed
from tests.support.nodes import get
from tests.support.tokens import client_headers
from tests.support.worker import worker
from tests.support.world import M1, M2, NOBODY

pytestmark = pytest.mark.timeout(240)

M3 = NOBODY
SHOP = "a.example"
DAYS = [f"2026-01-0{day}T00:00:00Z" for day in range(1, 6)]


async def install(at: Stage, merchant: str, domain: str, day: int, shop_id: Any) -> None:
    """`evt.merchant.created.v1`, and all that comes of it."""
    said = {"merchant_id": merchant, "platform_name": "shopify", "domain": domain}
    installed = {"platform_shop_id": shop_id, "installed_at": DAYS[day]}
    await at.send(names.MERCHANT_CREATED, {**said, **installed}, merchant)
    await at.quiet()


async def owner(at: Stage) -> str | None:
    """Who has the shop, by its table."""
    return (await at.audit.table_of_shops()).get(f"shopify:{SHOP}")


async def test_shop_changes_hands_on_purpose_only(kafka: str, prefix: str, folder: Path) -> None:
    again = folder / "again"
    again.mkdir()
    async with stage(kafka, prefix, folder) as at:
        await install(at, M1, SHOP, 0, 7)
        await install(at, M1, "b.example", 1, 7)
        await install(at, M2, SHOP, 2, "7")
        await install(at, M1, SHOP, 0, 7)
        await install(at, M3, SHOP, 3, "8")
        (taken,) = await at.letters(1)
        owners = [await owner(at)]
        refused = await at.dlq("redrive", "--all", "--because", "ann", "--yes")
        await at.worker.kill()
        async with worker(at.env, again) as at.worker:
            metrics = await get(at.worker.url, "/metrics")
            reply = await get(at.worker.url, "/api/billing", client_headers(SHOP))
            await at.command(M2, "forget_merchant")
            await at.quiet()
            owners.append(await owner(at))
            redriven = await at.dlq("redrive", "--all", "--because", "ann", "--yes")
            await at.quiet()
            owners.append(await owner(at))
            rows = await read_committed(kafka, [at.topics.changelog(names.SHOPS_TABLE)])
            report = await at.verify()

    assert taken.letter.record.reason.startswith(f"SHOP_TAKEN: merchant {M2} has it")
    assert owners == [M2, None, M3]
    assert (refused[0], redriven[0]) == (1, 0), (refused, redriven)
    assert "another platform_shop_id" in refused[1]
    assert reply.status == 200
    assert b"billing_shop_claims_total" in metrics.raw
    found = [json.loads(row.value) for row in rows if row.value and row.key[:1] != b"\0"]
    assert {"installed_at": DAYS[2]} in found
    assert report.ok, "\n".join(report.lines())
