"""A worker, a projector and a browser, and a small world that is known to the last credit."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, BrowserContext, Page

from billing_stream.ops.dead_letters import DeadLetterHistory
from billing_stream.records import topics as names
from billing_stream.web.ops.cookies import CookiePolicy
from billing_stream.web.ops.session import begin
from tests.dead_letters.stage import Stage
from tests.support.browser import DESK, browser
from tests.support.nodes import get
from tests.support.projection import fetch, projector
from tests.support.servers import empty_database
from tests.support.tokens import operator_headers, operator_token
from tests.support.worker import INTERNAL_SECRET, create_topics, environment, worker
from tests.support.world import M1, M2

DOMAIN = f"{M1[:13]}.example"
COOKIES = CookiePolicy(is_real=False)
WAIT_SECONDS = 30.0
# Of every page one, with {letter} for a dead letter that can be sent again.
PAGES = {
    "overview": "/ops",
    "workers": "/ops/workers",
    "dead-letters": "/ops/dead-letters",
    "dead-letter": "/ops/dead-letters/{letter}",
    "redrive": "/ops/dead-letters/{letter}/redrive",
    "edit": "/ops/dead-letters/{letter}/edit",
    "discard": "/ops/dead-letters/{letter}/discard",
    "merchants": "/ops/merchants",
    "not-found": "/ops/merchants?q=nobody.example",
    "merchant": f"/ops/merchants/{M1}",
    "credits": f"/ops/merchants/{M1}?only=credits",
    "adjust": f"/ops/merchants/{M1}/adjust",
    "purchases": "/ops/purchases",
    "no-purchases": "/ops/purchases?state=refunded&day=2001-01-01",
    "revenue": "/ops/revenue",
    "catalogue": "/ops/catalogue",
    "error": "/ops/merchants/33333333-3333-4333-8333-333333333333",
}


class Board:
    """What is looked at, and by what means.

    M1 has 100 credits for 9.99 and a pending purchase; of the two dead letters `bad` makes no
    sense, and `early` was a trial for M2, which is known only since then.
    """

    def __init__(self, stage: Stage, started: Browser, database_url: str) -> None:
        self.stage = stage
        self.browser = started
        self.database_url = database_url
        self.url = stage.worker.url
        self.bad: DeadLetterHistory
        self.early: DeadLetterHistory

    @property
    def letter(self) -> str:
        """The name of the letter that can be sent again."""
        return f"{self.early.letter.partition}@{self.early.letter.offset}"

    def path(self, name: str) -> str:
        """The path of a page of `PAGES`."""
        return PAGES[name].format(letter=self.letter)

    async def fill(self) -> None:
        """Make the world."""
        stage = self.stage
        await stage.create(M1)
        await stage.send(names.PURCHASE_UPDATED, b"{no JSON", M1)
        await stage.command(M2, "start_trial")
        await stage.charged(M1, "charge-1")
        await self.pay("charge-1")
        await stage.charged(M1, "charge-2")
        found = await stage.letters(2)
        (self.bad,) = (one for one in found if "JSON" in one.letter.record.reason)
        (self.early,) = (one for one in found if "MERCHANT" in one.letter.record.reason)
        await stage.create(M2)
        await self.set_catalogue("large is sold no more", 500)
        await self.set_catalogue("more for winter", 600, days=1)
        await self.projected(
            "SELECT 1 FROM billing_events, (SELECT count(*) FROM billing_records) merchants, "
            "(SELECT count(*) FROM credit_purchases) purchases "
            "WHERE event_type LIKE '%credits.purchased%' "
            "AND merchants.count = 2 AND purchases.count = 2"
        )

    async def set_catalogue(self, reason: str, credits: int, days: int = 0) -> None:
        """Set a version without `large`, over HTTP, in force in so many days."""
        usd = {"small": (100, "9.99"), "medium": (credits, "39.99")}
        packs = {name: {"credits": n, "price": {"USD": price}} for name, (n, price) in usd.items()}
        body = {"packs": packs, "reason": reason, "idempotency_key": reason}
        if days:
            at = datetime.now(UTC) + timedelta(days=days)
            body["effective_at"] = at.isoformat()
        headers = operator_headers("olga")
        reply = await get(self.url, "/internal/catalogue", headers, method="POST", json=body)
        assert reply.status == HTTPStatus.CREATED, reply.body

    async def pay(self, charge: str) -> None:
        """Have a charge paid, as the platform tells."""
        value = {"merchant_id": M1, "charge_id": charge, "status": "ACTIVE"}
        await self.stage.send(names.PURCHASE_UPDATED, value, M1)

    async def projected(self, query: str) -> list[dict[str, Any]]:
        """The rows of a query, once there are some."""
        rows: list[dict[str, Any]] = await until(lambda: fetch(self.database_url, query))
        return rows

    async def events(self, kind: str) -> list[dict[str, Any]]:
        """All published events of a kind."""
        found: list[dict[str, Any]] = (await self.stage.audit.events())[kind]
        return found

    @asynccontextmanager
    async def window(self, **options: Any) -> AsyncIterator[BrowserContext]:
        """A browser's window of its own, where nobody is logged in."""
        context = await self.browser.new_context(**{"viewport": DESK, **options})
        context.set_default_timeout(15_000)
        try:
            yield context
        finally:
            await context.close()

    @asynccontextmanager
    async def logged_in(self, path: str = "/ops", **options: Any) -> AsyncIterator[Page]:
        """A page of an operator, with the cookie that the form for logging in gives."""
        cookie, *_ = begin(operator_token("olga"), INTERNAL_SECRET)
        async with self.window(**options) as window:
            name, below = COOKIES.name, COOKIES.path
            await window.add_cookies(
                [{"name": name, "value": cookie, "domain": "127.0.0.1", "path": below}]
            )
            page = await window.new_page()
            await page.goto(self.url + path)
            yield page


async def until(look: Callable[[], Awaitable[Any]]) -> Any:
    """What there is to be seen, once there is something."""
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        found = await look()
        if found:
            return found
        await asyncio.sleep(0.1)
    raise AssertionError(f"waited for {WAIT_SECONDS} s in vain")


@asynccontextmanager
async def board(kafka: str, postgres: str, folder: Path) -> AsyncIterator[Board]:
    """All of it, started and filled."""
    prefix = f"t{uuid.uuid4().hex[:10]}."
    async with empty_database(postgres) as url:
        env = environment(kafka, prefix, DATABASE_URL=url)
        await create_topics(env)
        stage = Stage(kafka, prefix, env)
        await stage.start()
        try:
            # Whatever takes its time to start does so beside the others.
            async with (
                projector(env, folder),
                browser() as started,
                worker(env, folder) as stage.worker,
            ):
                found = Board(stage, started, url)
                await found.fill()
                yield found
        finally:
            await stage.stop()


def journalled(records: list[Any], kind: str) -> list[dict[str, Any]]:
    """The journal's entries of a kind of command."""
    entries = [json.loads(record.value) for record in records]
    commands = [entry for entry in entries if "command" in entry]
    return [entry for entry in commands if entry["command"]["command"] == kind]
