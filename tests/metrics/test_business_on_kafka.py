"""Credits, money and open dead letters, as a real worker reports them; also after its end."""

from pathlib import Path

import pytest

from billing_stream.records import topics as names
from tests.dead_letters.stage import Stage, stage
from tests.metrics.test_scraped import Figures, scrape, total
from tests.support.worker import worker
from tests.support.world import M1, M2

pytestmark = pytest.mark.timeout(240)
BECAUSE = ("--because", "ticket 4712", "--yes")
GRANTED, REMOVED = "billing_credits_granted_total", "billing_credits_removed_total"
REVENUE, REFUNDS = "billing_revenue_minor_units_total", "billing_refunds_minor_units_total"
OPEN = "billing_dead_letters_open"


async def figures(at: Stage) -> Figures:
    _, found = await scrape(at.worker)
    return found


async def open_letters(at: Stage, count: int) -> Figures:
    """The figures, as soon as so many dead letters are reported as open. Raises when never."""

    async def look() -> Figures | None:
        found = await figures(at)
        there = any(name == OPEN for name, _ in found)
        return found if there and total(found, OPEN) == count else None

    found: Figures = await at.until(look)
    return found


async def test_credits_money_and_open_letters_are_right_after_a_restart(
    kafka: str, prefix: str, folder: Path
) -> None:
    async with stage(kafka, prefix, folder) as at:
        await at.create(M1)
        await at.charged(M1, "charge-1")
        paid = {"merchant_id": M1, "charge_id": "charge-1", "status": "ACTIVE"}
        await at.send(names.PURCHASE_UPDATED, paid, M1)
        await at.send(names.PURCHASE_UPDATED, paid, M1)
        back = {"merchant_id": M1, "charge_id": "charge-1", "amount": "3.33"}
        await at.send(names.PURCHASE_REFUNDED, back, M1)
        await at.send(names.PURCHASE_UPDATED, b"{", M1)
        await at.send(names.PURCHASE_UPDATED, b"{", M1)
        await at.command(M2, "start_trial")
        found = await open_letters(at, 3)
        event = {"event": "credits.purchased"}
        assert total(found, GRANTED) == total(found, GRANTED, **event) == 100
        assert total(found, REMOVED, event="purchase.refunded") == total(found, REMOVED) == 33
        assert total(found, REVENUE, currency="USD", platform="shopify") == 999
        assert total(found, REVENUE) == 999
        assert total(found, REFUNDS, currency="USD") == total(found, REFUNDS) == 333
        of = {"topic": names.PURCHASE_UPDATED, "reason": "NOT_UNDERSTOOD"}
        refused = {"topic": names.COMMANDS, "reason": "MERCHANT_NOT_FOUND"}
        assert (total(found, OPEN, **of), total(found, OPEN, **refused)) == (2, 1)

        # Another worker restores all of it: nothing was granted again, and all are open still.
        await at.worker.kill()
        async with worker(at.env, folder) as at.worker:
            found = await open_letters(at, 3)
            assert [total(found, name) for name in (GRANTED, REMOVED, REVENUE, REFUNDS)] == [0] * 4
            assert total(found, "billing_dead_letters_total") == 0
            assert (total(found, OPEN, **of), total(found, OPEN, **refused)) == (2, 1)

            code, output = await at.dlq("discard", "--topic", names.PURCHASE_UPDATED, *BECAUSE)
            assert code == 0, output
            found = await open_letters(at, 1)
            await at.create(M2)
            await at.quiet()
            code, output = await at.dlq("redrive", "--all", *BECAUSE)
            assert code == 0, output
            found = await open_letters(at, 0)
            # A figure of 0, so that an alert on it ends.
            assert total(found, OPEN, **refused) == 0
            assert any(
                name == OPEN and ("reason", "MERCHANT_NOT_FOUND") in labels
                for name, labels in found
            )
