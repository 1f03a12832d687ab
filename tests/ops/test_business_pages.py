"""The lists, CSV files and actions of staff: a real browser, worker, broker and PostgreSQL."""

import csv
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import expect

from billing_stream.ops.dead_letters import Filters, find
from billing_stream.records import topics as names
from tests.ops.board import DOMAIN, Board, board, until
from tests.support.browser import PHONE, findings, screenshot, sideways
from tests.support.delivery import add_endpoint, delivering
from tests.support.projection import fetch
from tests.support.receiver import Received, receiving
from tests.support.worker import run
from tests.support.world import M1

pytestmark = [
    pytest.mark.full,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(240),
]

THOUSAND = 1_000
WAIT_MS = 30_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def at(
    kafka: str, postgres: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Board]:
    """The world of the pages, and a thousand merchants more."""
    async with board(kafka, postgres, tmp_path_factory.mktemp("ops")) as found:
        for number in range(THOUSAND):
            merchant = f"{number:08x}-3333-4333-8333-333333333333"
            await found.stage.command(
                merchant, "create_merchant", platform="stripe", domain=f"shop-{number}.example"
            )

        async def projected() -> bool:
            query = "SELECT count(*) AS n FROM billing_records"
            (counted,) = await fetch(found.database_url, query)
            return bool(counted["n"] == THOUSAND + 2)

        await until(projected)
        yield found


async def test_merchants_are_found_by_a_part_and_listed_part_by_part(at: Board) -> None:
    async with at.logged_in("/ops/merchants", java_script_enabled=False) as page:
        await page.get_by_label("Part of a domain or of a merchant id").fill("shop-99")
        await page.get_by_role("button", name="Search merchants").click()
        await expect(page.locator("tbody tr")).to_have_count(11)
        await page.get_by_role("link", name="shop-990.example").click()
        await expect(page.get_by_role("heading", level=1)).to_contain_text("shop-990.example")

        await page.goto(at.url + "/ops/merchants")
        seen: list[str] = []
        for _ in range(3):
            seen += await page.locator("tbody th a").all_inner_texts()
            await page.get_by_role("link", name="Older").click()
        assert len(set(seen)) == 75
        await page.get_by_role("link", name="Newest", exact=True).last.click()
        await expect(page.locator("tbody th a").first).to_have_text(seen[0])
        await page.locator("#order-paid").click()
        await expect(page.locator("tbody th a")).to_have_text([DOMAIN])


async def test_a_thousand_merchants_fit_a_phone(at: Board) -> None:
    async with at.logged_in("/ops/merchants", viewport=PHONE) as page:
        assert await sideways(page) <= 0
        height = await page.evaluate("document.documentElement.scrollHeight")
        # Of 25 merchants, two lines each.
        assert height < 3_000


async def test_a_number_of_the_overview_leads_to_its_purchases_and_their_csv(at: Board) -> None:
    async with at.logged_in() as page:
        await page.locator("#state-pending").click()
        await expect(page.get_by_role("heading", name="Pending purchases")).to_be_visible()
        await expect(page.locator("tbody tr")).to_have_count(1)
        await expect(page.locator("tbody tr")).to_contain_text(DOMAIN)
        async with page.expect_download() as waited:
            await page.get_by_role("link", name="Export as CSV").click()
        download = await waited.value
        text = Path(await download.path()).read_text()

        await page.goto(at.url + "/ops/purchases")
        await page.get_by_label("State").select_option("completed")
        await page.get_by_role("button", name="Filter purchases").click()
        await expect(page.locator("tbody tr")).to_have_count(1)

    assert download.suggested_filename == "purchases.csv"
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    assert (row["status"], row["amount"], row["currency"]) == ("pending", "9.99", "USD")
    assert (row["merchant_id"], row["domain"]) == (M1, DOMAIN)
    assert any("export list=purchases outcome=done rows=1" in line for line in audit(at))


def audit(at: Board) -> list[str]:
    """What the worker wrote to its log."""
    return at.stage.worker.log.read_text(errors="replace").splitlines()


async def test_trial_credits_are_shown_where_they_are_granted(at: Board) -> None:
    await at.stage.command(M1, "start_trial")
    query = f"SELECT 1 FROM billing_events WHERE merchant_id = '{M1}' AND event_type LIKE '%trial%'"
    await at.projected(query)

    async with at.logged_in(f"/ops/merchants/{M1}") as page:
        row = page.locator("#timeline tbody tr", has_text="trial started")
        await expect(row).to_contain_text("500 trial credits, not in the balance")


async def letter(at: Board, value: dict[str, Any]) -> str:
    """A dead letter of this command, which is not valid; its name."""
    source = await at.stage.send(names.COMMANDS, value, M1)

    async def dead() -> str | None:
        found = [one.letter for one in await find(at.stage.cluster, Filters())]
        named = [f"{one.partition}@{one.offset}" for one in found if one.source == source]
        return named[0] if named else None

    name: str = await until(dead)
    return name


async def test_a_dead_letter_is_corrected_and_redriven_once(at: Board) -> None:
    created = "44444444-4444-4444-8444-444444444444"
    name = await letter(at, {"command": "create_merchant", "merchant_id": created, "domain": 7})
    async with at.logged_in(f"/ops/dead-letters/{name}", java_script_enabled=False) as page:
        await expect(page.get_by_role("button", name="Redrive dead letter")).to_be_disabled()
        await page.get_by_role("link", name="Edit the value").click()
        box = page.get_by_role("textbox", name="Value of the record")
        shown = await box.input_value()
        await page.get_by_role("button", name="Check the value").click()
        await expect(page.get_by_role("alert")).to_contain_text("a redrive would fail")
        await box.fill(shown.replace("7", '"corrected.example", "platform": "shopify"'))
        await page.get_by_role("button", name="Check the value").click()
        await expect(page.get_by_text(f"create_merchant of merchant {created}")).to_be_visible()
        await page.get_by_label("Reason").fill("the domain was a number")
        await page.get_by_role("button", name="Redrive dead letter").click()
        await expect(page.get_by_role("status")).to_contain_text("was redriven")
        await expect(page.get_by_text("with another value")).to_be_visible()
        await page.goto(f"{at.url}/ops/dead-letters/{name}/edit")
        await expect(page.get_by_text("the dead letter is redriven already")).to_be_visible()

    rows = await at.projected(f"SELECT domain FROM billing_records WHERE merchant_id = '{created}'")
    assert [row["domain"] for row in rows] == ["corrected.example"]


async def test_a_dead_letter_is_discarded_with_a_reason(at: Board) -> None:
    name = await letter(at, {"command": "start_trial", "merchant_id": "nobody"})
    async with at.logged_in(f"/ops/dead-letters/{name}") as page:
        await page.get_by_role("link", name="Discard dead letter").click()
        await page.get_by_label("Reason").fill("a test of the gateway")
        await page.get_by_role("button", name="Discard dead letter").click()
        await expect(page.get_by_role("status")).to_contain_text("was discarded")
        await page.goto(at.url + "/ops/dead-letters?state=discarded")
        await expect(page.get_by_role("link", name=name, exact=True)).to_be_visible()

    (act,) = [one for one in await at.stage.ledger() if one["action"] == "discarded"]
    assert (act["by"], act["reason"]) == ("olga", "a test of the gateway")


async def gone(_: Received) -> web.Response:
    """What an endpoint answers that is to be disabled."""
    return web.Response(status=410)


async def test_a_disabled_endpoint_is_on_the_overview_until_it_is_enabled(
    at: Board, tmp_path: Path
) -> None:
    env = {**at.stage.env, "BILLING_WEBHOOKS_ALLOW_PRIVATE": "true"}
    async with receiving() as receiver, delivering(env, tmp_path), at.logged_in() as page:
        card = page.get_by_role("region", name="Outgoing webhooks")
        await expect(card).to_have_count(0)
        receiver.answers["/crm"] = gone
        await add_endpoint(env, "crm", f"{receiver.url}/crm?key=sesame", "--since", "2020-01-01")
        await add_endpoint(env, "books", f"{receiver.url}/books")
        await expect(page.locator("#banner")).to_contain_text(
            "1 endpoint of outgoing webhooks disabled: crm.", timeout=WAIT_MS
        )
        first = card.locator("tbody tr").first
        await expect(first).to_contain_text("it answered 410 Gone")
        await expect(first.locator(".badge")).to_have_text("disabled")
        await expect(first).to_contain_text(receiver.url)
        await expect(card).to_contain_text("billing-stream deliver endpoints enable crm")
        await expect(card.locator("tbody tr", has_text="books")).to_contain_text("enabled")
        assert "sesame" not in await page.content()
        await page.get_by_role("link", name="1 endpoint of outgoing webhooks disabled").click()
        assert page.url.endswith("#endpoints-title")
        assert await findings(page) == []
        await screenshot(page, "endpoints")
        async with at.logged_in(viewport=PHONE) as phone:
            await expect(phone.locator("#endpoints-title")).to_be_visible()
            assert await sideways(phone) <= 0
            await screenshot(phone, "endpoints-phone")

        receiver.answers.clear()
        code, output = await run(env, "deliver", "endpoints", "enable", "crm")
        assert code == 0, output
        await expect(page.locator("#banner")).not_to_contain_text("crm", timeout=WAIT_MS)
        await expect(card.locator("tbody tr", has_text="crm")).to_contain_text("enabled")
