"""The dashboard as people have it: a real browser, a real worker, a real broker and PostgreSQL."""

import asyncio
import re
from collections.abc import AsyncIterator
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import msgspec
import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from billing_stream.records import topics as names
from tests.ops.board import DOMAIN, PAGES, Board, board, journalled, until
from tests.support.audit import read_committed
from tests.support.browser import DESK, PHONE, findings, screenshot, sideways
from tests.support.tokens import operator_token
from tests.support.world import M1, M2

pytestmark = [
    pytest.mark.full,
    pytest.mark.asyncio(loop_scope="module"),
    # Another module's fixtures begin in the first of these.
    pytest.mark.timeout(240),
]

# For what comes by itself: at the next turn, after a projector and caches.
WAIT_MS = 30_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def at(
    kafka: str, postgres: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Board]:
    """One worker and one browser for all of these."""
    async with board(kafka, postgres, tmp_path_factory.mktemp("ops")) as found:
        yield found


async def texts(page: Page, selector: str) -> list[str]:
    """What the elements say, each in one line."""
    found = await page.locator(selector).all_inner_texts()
    return [re.sub(r"\s+", " ", text).strip() for text in found]


async def figure(page: Page, name: str) -> str:
    """The value of a tile or of a line in a list of figures."""
    tile = page.locator("dl > div", has=page.get_by_text(name, exact=True))
    return re.sub(r"\s+", " ", await tile.locator("dd").inner_text()).strip()


async def row(page: Page, table: str, name: str) -> list[str]:
    """The cells of a row in the section with this heading."""
    section = page.get_by_role("region", name=table).or_(
        page.locator("section", has=page.get_by_role("heading", name=table))
    )
    found = section.first.locator("tr", has_text=name).first.locator("th, td")
    return [re.sub(r"\s+", " ", text).strip() for text in await found.all_inner_texts()]


async def test_the_overview_says_what_is_so(at: Board) -> None:
    async with at.logged_in() as page:
        banner = page.locator("#banner")
        await expect(banner).to_contain_text("Something needs a look")
        await expect(banner.get_by_role("link")).to_have_attribute("href", "/ops/dead-letters")
        assert "2 open dead letters" in await banner.inner_text()
        assert (await figure(page, "Revenue today")).startswith("9.99")
        assert (await figure(page, "Open dead letters")).startswith("2")
        assert (await figure(page, "Revenue today")).endswith("1 purchase paid")
        await expect(page.locator("#as-of")).to_contain_text("UTC, from the projection.")
        await expect(page.get_by_text("USD 9.99 net")).to_be_visible()
        assert await figure(page, "Merchants") == "2"
        assert await figure(page, "Trials started") == "0"
        assert await row(page, "Purchases by state and platform", "completed") == [
            "completed",
            "1 9.99 USD",
            "1 9.99 USD",
        ]
        assert await row(page, "Purchases by state and platform", "pending") == [
            "pending",
            "1 9.99 USD",
            "1 9.99 USD",
        ]
        assert await row(page, "Open dead letters by reason", "MERCHANT_NOT_FOUND") == [
            "MERCHANT_NOT_FOUND billing.commands.v1",
            "1",
        ]
        assert (await row(page, "Workers", at.url))[1:3] == ["ready", "4"]


async def test_every_partition_has_its_owner_lag_and_last_commit(at: Board) -> None:
    async with at.logged_in(at.path("workers")) as page:

        async def at_rest() -> bool:
            rows = [await row(page, "Partitions", f"Partition {number}") for number in range(4)]
            return all(cells[3] in ("0", "\u2013") for cells in rows)

        # The lag is a sample, and may be one of before.
        await until(at_rest)
        for number in range(4):
            cells = await row(page, "Partitions", f"Partition {number}")
            assert cells[1:3] == ["running", at.url]
            assert cells[3] in ("0", "\u2013")
            assert re.fullmatch(r"none yet|just now|\d+(\.\d)? (s|min) ago", cells[6])


async def test_figures_come_anew_by_themselves(at: Board) -> None:
    async with at.logged_in() as page:
        paid = page.locator("dl.tiles > div", has_text="Revenue today")
        await expect(paid).to_contain_text("9.99")
        await page.evaluate("window.loaded = 'once'")

        await at.pay("charge-2")

        await expect(paid).to_contain_text("19.98", timeout=WAIT_MS)
        await expect(paid).to_contain_text("2 purchases paid", timeout=WAIT_MS)
        # And not because the page was loaded anew.
        assert await page.evaluate("window.loaded") == "once"


async def test_who_pauses_keeps_what_is_shown_and_an_answer_that_fails_is_told(at: Board) -> None:
    async with at.logged_in() as page:
        # Time is passed here, and not waited for.
        await page.clock.install()
        await page.goto(at.url + at.path("workers"))
        silent = page.get_by_text("This worker does not answer")
        await page.context.set_offline(True)
        await turn(page)
        await expect(silent).to_be_visible(timeout=WAIT_MS)
        await page.context.set_offline(False)
        await turn(page)
        await expect(silent).to_be_hidden(timeout=WAIT_MS)

        await page.get_by_label("Live").uncheck()
        assert await page.evaluate(ASKS) is True
        await turn(page)
        assert await page.evaluate("window.asked") is False
        await page.get_by_label("Live").check()
        await turn(page)
        assert await page.evaluate("window.asked") is True


# Notes whether the next request of htmx is let through.
ASKS = """document.addEventListener("htmx:beforeRequest",
    event => { window.asked = !event.defaultPrevented }) || true"""


async def turn(page: Page) -> None:
    """Let so much time pass that the page asks for its figures once more."""
    await page.clock.fast_forward(6_000)


async def test_all_of_it_is_read_without_javascript(at: Board) -> None:
    wanted = {
        "overview": "Revenue today",
        "workers": at.url,
        "dead-letters": "MERCHANT_NOT_FOUND",
        "dead-letter": "start_trial",
        "redrive": f"start_trial of merchant {M2}",
        "edit": "Value of the record",
        "discard": "Discard dead letter",
        "merchants": "Newest merchants",
        "not-found": "There is no merchant with nobody.example",
        "merchant": "credits purchased",
        "credits": "Where each credit came from",
        "adjust": "has",
        "purchases": "All purchases, newest first",
        "no-purchases": "No purchase matches these filters.",
        "revenue": "USD: 9.99 net in 30 days",
        "catalogue": "Packs on sale",
        "error": "This request failed",
    }
    async with at.logged_in(java_script_enabled=False) as page:
        for name in PAGES:
            await page.goto(at.url + at.path(name))
            await expect(page.locator("main")).to_contain_text(wanted[name])
            await expect(page.get_by_label("Live")).to_be_hidden()


class Visit(msgspec.Struct, frozen=True):
    """A page: what axe found, by how much it was too wide, what the browser complained of."""

    findings: list[str]
    sideways: int
    said: list[str] = []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tour(at: Board) -> dict[str, Visit]:
    """Every page once: at a desk and on a phone, in light and dark."""
    found = {}
    async with at.window() as window:
        page = await window.new_page()
        await page.goto(at.url + "/ops/login")
        found["login"] = await visit(page, "login")
        await page.fill("#token", "wrong")
        await page.click("button")
        await expect(page.get_by_role("alert")).to_be_visible()
        found["refused"] = await visit(page, "refused")
    async with at.logged_in() as page:
        for name in PAGES:
            said = await go(page, at.url + at.path(name))
            found[name] = msgspec.structs.replace(await visit(page, name), said=said)
        await page.goto(at.url + at.path("adjust"))
        await page.fill("#credits", "5")
        await page.fill("#reason", "a look")
        await page.get_by_role("button", name="Continue").click()
        await expect(page.get_by_role("heading", name="Add 5 credits?")).to_be_visible()
        found["confirm"] = await visit(page, "adjust-confirm")
    return found


async def visit(page: Page, name: str) -> Visit:
    """Look at the page from all sides, and keep pictures."""
    found = await findings(page)
    await screenshot(page, f"{name}-light")
    await page.emulate_media(color_scheme="dark")
    found += await findings(page, "color-contrast")
    await page.set_viewport_size(PHONE)
    await screenshot(page, f"{name}-phone-dark")
    wider = await sideways(page)
    await page.emulate_media(color_scheme="light")
    await page.set_viewport_size(DESK)
    return Visit(found, wider)


async def go(page: Page, url: str) -> list[str]:
    """Open a page; what the browser said of it."""
    said: list[str] = []

    def hear(line: Any) -> None:
        said.append(getattr(line, "text", str(line)))

    page.on("console", hear)
    page.on("pageerror", hear)
    await page.goto(url)
    page.remove_listener("console", hear)
    page.remove_listener("pageerror", hear)
    return said


async def test_axe_finds_nothing_serious_on_any_page(tour: dict[str, Visit]) -> None:
    assert [one for visit in tour.values() for one in visit.findings] == []


async def test_on_a_phone_nothing_is_wider_than_it(tour: dict[str, Visit]) -> None:
    assert {name for name, visit in tour.items() if visit.sideways > 0} == set()


async def test_the_browser_has_nothing_to_complain_of(tour: dict[str, Visit]) -> None:
    # It tells of an answer that is not 200, as is meant there.
    meant = {"error", "not-found"}
    assert [one for name in tour.keys() - meant for one in tour[name].said] == []


async def test_the_catalogue_shows_what_is_sold_and_its_history(at: Board) -> None:
    async with at.logged_in(at.path("catalogue")) as page:
        assert await row(page, "Packs on sale", "medium") == [
            "medium",
            "\u2013",
            "500",
            "39.99 USD",
        ]
        coming = await row(page, "Coming versions", "more for winter")
        changed = (
            "medium changed: 500 credits for 39.99 USD \u2192 becomes 600 credits for 39.99 USD"
        )
        assert (coming[0], coming[2:]) == ("2", [changed, "olga", "more for winter"])
        retired = await row(page, "Retired packs", "large")
        assert retired == ["large", "1,000 credits for 69.99 USD", "1"]
        assert await texts(page, "section:last-of-type tbody th") == ["2", "1"]
        cells = await row(page, "History", "large is sold no more")
        assert cells[1] == "in force"
        assert cells[3] == "large retired: 1,000 credits for 69.99 USD"
        assert cells[4].startswith("olga ")
        await page.evaluate("window.loaded = 'once'")

        await at.set_catalogue("less in spring", 400, days=2)

        await expect(page.locator("#live")).to_contain_text("less in spring", timeout=WAIT_MS)
        assert await page.evaluate("window.loaded") == "once"


async def test_light_and_dark_are_as_the_system_has_it(at: Board) -> None:
    grounds = []
    async with at.logged_in() as page:
        for scheme in ("light", "dark"):
            colours: Any = scheme
            await page.emulate_media(color_scheme=colours)
            style = "getComputedStyle(document.body)"
            ground = await page.evaluate(f"{style}.backgroundColor")
            text = await page.evaluate(f"{style}.color")
            grounds.append((_brightness(ground), _brightness(text)))

    (light_ground, light_text), (dark_ground, dark_text) = grounds
    assert light_ground > 200 > 60 > light_text
    assert dark_ground < 60 < 200 < dark_text


def _brightness(colour: str) -> float:
    return sum(map(int, re.findall(r"\d+", colour)[:3])) / 3


async def test_the_keyboard_is_enough(at: Board) -> None:
    async with at.window() as window:
        page = await window.new_page()
        await page.goto(at.url + at.path("dead-letters"))
        assert await focused_after_tab(page) == "Skip to the content"
        await page.keyboard.press("Tab")
        await page.keyboard.press("Tab")
        await page.keyboard.type(operator_token("olga"))
        await page.keyboard.press("Enter")
        # There where one wanted to go.
        await page.wait_for_url("**/ops/dead-letters")

        reached = [await focused_after_tab(page) for _ in range(12)]
        assert reached[:9] == [
            "Skip to the content",
            "billing-stream",
            "Overview",
            "Merchants",
            "Purchases",
            "Revenue",
            "Dead letters",
            "Catalogue",
            "Workers",
        ]
        assert reached[9:] == ["Log out", "Live", "Reload"]
        for _ in range(3):
            await page.keyboard.press("Shift+Tab")
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/ops/workers")


async def focused_after_tab(page: Page) -> str:
    """The name of what has the focus after the next Tab, which must be seen to have it."""
    await page.keyboard.press("Tab")
    name, outline = await page.evaluate(
        """() => {
            const one = document.activeElement, label = one.labels && one.labels[0];
            const style = getComputedStyle(one);
            return [(label || one).innerText.trim(), `${style.outlineStyle} ${style.outlineWidth}`];
        }"""
    )
    assert outline == "solid 3px", name
    return str(name)


async def test_a_link_keeps_the_focus_when_the_figures_come_anew(at: Board) -> None:
    async with at.logged_in() as page:
        await page.clock.install()
        await page.goto(at.url + at.path("dead-letters"))
        await page.locator("#state-all").focus()
        old = await page.query_selector("#live")
        assert old is not None

        await turn(page)
        await page.wait_for_function("old => !old.isConnected", arg=old, timeout=WAIT_MS)

        await page.wait_for_function("document.activeElement.id === 'state-all'", timeout=WAIT_MS)


async def test_a_merchant_is_found_and_each_credit_has_its_record(at: Board) -> None:
    (bought, *_) = await at.events("credits.purchased")
    topic = at.stage.topics.name(names.event_type("credits.purchased"))
    (told, *_) = await read_committed(at.stage.kafka, [topic])
    ref = dict(told.headers)["cause"].decode()
    found = re.fullmatch(r"(.+)\[(\d+)\]@(\d+)", ref)
    assert found is not None
    async with at.logged_in(at.path("merchants")) as page:
        await page.get_by_label("Part of a domain or of a merchant id").fill(DOMAIN)
        await page.keyboard.press("Enter")
        await page.wait_for_url(f"**/ops/merchants/{M1}")

        cells = await row(page, "What happened", bought["event_id"])
        assert cells[1] == "credits purchased 9.99 USD"
        assert cells[3:5] == ["+100", "100"]
        assert cells[5] == f"{found[1]} partition {found[2]}, offset {found[3]}"
        assert (
            cells[6] == f"{bought['event_id']} published at {topic}[{told.partition}]@{told.offset}"
        )


async def test_an_adjustment_is_made_once_however_often_its_form_is_sent(at: Board) -> None:
    async with at.logged_in(at.path("merchant"), java_script_enabled=False) as page:
        before = int((await figure(page, "Balance")).split()[0])
        await page.get_by_role("link", name="Adjust credits").click()
        await page.fill("#credits", "-7")
        await page.fill("#reason", "ticket 4711")
        await page.get_by_role("button", name="Continue").click()
        await expect(page.get_by_role("heading", name="Remove 7 credits?")).to_be_visible()
        form = await fields(page, "yes")
        path, cookie = page.url, await page.context.cookies()
        assert await at.events("credits.adjusted") == []

        await page.get_by_role("button", name="Remove 7 credits").click()
        await page.wait_for_url("**/ops/merchants/**done=adjusted**")
        await expect(page.get_by_role("status").first).to_contain_text("made and committed")
        assert int((await figure(page, "Balance")).split()[0]) == before - 7
        again = await post(path, form, cookie)

        # Without JavaScript nothing comes by itself.
        await at.projected("SELECT 1 FROM billing_events WHERE event_type LIKE '%adjusted%'")
        await page.reload()
        cells = await row(page, "What happened", "credits adjusted")

    assert again == 303
    (event,) = await at.events("credits.adjusted")
    assert (event["data"]["credits"], event["data"]["reason"]) == (-7, "ticket 4711")
    assert cells[1] == "credits adjusted ticket 4711"
    assert cells[3] == "\u22127"
    assert cells[5] == "operator:olga not from a topic"
    topic = at.stage.topics.name(names.JOURNAL)
    (entry,) = journalled(await read_committed(at.stage.kafka, [topic]), "adjust_credits")
    assert entry["origin"] == "operator:olga"


async def test_more_than_there_is_cannot_be_taken(at: Board) -> None:
    async with at.logged_in(at.path("adjust")) as page:
        await page.fill("#credits", "-1000000")
        await page.fill("#reason", "a mistake")
        await page.get_by_role("button", name="Continue").click()
        await expect(page.locator("#refused")).to_contain_text("cannot fall below 0")
        button = page.get_by_role("button", name="Remove 1,000,000 credits")
        await expect(button).to_be_disabled()
        form = await fields(page, "yes")
        path, cookie = page.url, await page.context.cookies()

        # The rule is that of the lane, whatever the page offers.
        assert await post(path, form, cookie) == 409


async def test_a_dead_letter_is_sent_again_once(at: Board) -> None:
    async with at.logged_in(at.path("dead-letters")) as page:
        await page.get_by_role("link", name=at.letter, exact=True).click()
        await page.get_by_role("link", name="Redrive dead letter").click()
        await expect(page.get_by_text(f"start_trial of merchant {M2}")).to_be_visible()
        await page.fill("#reason", "the merchant is known now")
        form = await fields(page, None)
        path, cookie = page.url, await page.context.cookies()
        assert await at.stage.copies() == []
        twice = await asyncio.gather(*(post(path, form, cookie) for _ in range(2)))
        await page.goto(at.url + at.path("dead-letter"))
        await expect(page.get_by_text("redriven").first).to_be_visible()
        cells = await row(page, "What was done with it", "redriven")
        await page.goto(at.url + at.path("dead-letters"))
        await expect(page.get_by_role("link", name=at.letter, exact=True)).to_have_count(0)

    assert sorted(twice) == [303, 409]
    (act,) = await at.stage.ledger()
    assert (act["by"], act["reason"]) == ("olga", "the merchant is known now")
    assert cells[2:] == ["olga", "the merchant is known now", act["target"]]
    await until(lambda: at.events("trial.started"))
    await at.stage.quiet()
    (started,) = await at.events("trial.started")
    assert started["data"]["merchant_id"] == M2
    assert len(await at.stage.copies()) == 1


async def test_what_would_be_dead_again_is_not_offered(at: Board) -> None:
    name = f"{at.bad.letter.partition}@{at.bad.letter.offset}"
    async with at.logged_in(f"/ops/dead-letters/{name}/redrive") as page:
        await expect(page.get_by_text("would be a dead letter again")).to_be_visible()
        await expect(page.get_by_role("button", name="Redrive dead letter")).to_be_disabled()


async def fields(page: Page, confirmed: str | None) -> dict[str, str]:
    """What the form in the middle of the page would send."""
    sent = await page.eval_on_selector_all(
        "main form input", "all => all.map(one => [one.name, one.value])"
    )
    found = dict(sent)
    assert found.get("confirmed") == confirmed
    return found


async def post(url: str, form: dict[str, str], cookies: Any) -> int:
    """Send a form once more, as the same browser would; the status."""
    jar = SimpleCookie({one["name"]: one["value"] for one in cookies})
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            url,
            data=form,
            headers={"Cookie": jar.output(header="", sep=";").strip(), "Accept": "text/html"},
            allow_redirects=False,
        ) as reply,
    ):
        location = reply.headers.get("Location", "")
        assert parse_qs(urlsplit(location).query).get("next") is None, location
        return reply.status
