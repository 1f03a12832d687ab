"""A merchant: found by id or shop, its status, what happened, where each credit came from."""

import asyncio
import re
from datetime import UTC, datetime

from aiohttp import web
from msgspec import Struct

from billing_stream.domain.commands import UUID_TEXT
from billing_stream.domain.model import Merchant, Platform
from billing_stream.tables.codecs import shop_key
from billing_stream.web.billing import known
from billing_stream.web.envelope import ApiError, Ids, Pagination, ids_of
from billing_stream.web.ops.ops_views import OpsView, page_of, see
from billing_stream.web.ops.projected import TimelineEntry
from billing_stream.web.pagination import Page
from billing_stream.web.queries import MerchantFound, ReadMerchant

MERCHANTS_PATH = "/ops/merchants"
MERCHANT_PATH = "/ops/merchants/{merchant_id:[0-9a-fA-F-]{36}}"
LIMIT = 20
PURCHASES = 10
TEXT_MAX = 320


class Timeline(Struct, frozen=True):
    """A page of what happened; or why there is none."""

    entries: list[TimelineEntry]
    pages: Pagination | None
    why: str | None


class MerchantsPage(OpsView):
    """`/ops/merchants`"""

    async def get(self, request: web.Request) -> web.Response:
        """The search; where it finds, on to the merchant."""
        session = self.session(request)
        asked = request.query.get("q", "").strip()[:TEXT_MAX]
        missing = None
        if asked:
            merchant_id = await self._find(asked, ids_of(request))
            if merchant_id is not None:
                return see(f"{MERCHANTS_PATH}/{merchant_id}")
            missing = asked
        status = 200 if missing is None else 404
        return self.page(
            request, "merchants.html", session, status=status, asked=asked, missing=missing
        )

    async def _find(self, asked: str, ids: Ids) -> str | None:
        if re.fullmatch(UUID_TEXT, asked):
            found = await self.context.owners.read(ReadMerchant(asked.lower()), ids)
            return asked.lower() if found.merchant is not None else None
        platform, colon, domain = asked.lower().partition(":")
        shops = [shop_key(platform, domain)] if colon else _shops(asked.lower())
        owners = self.context.owners
        told = await asyncio.gather(*(owners.find_merchant(shop, ids) for shop in shops))
        return next((merchant_id for merchant_id in told if merchant_id is not None), None)


class MerchantPage(OpsView):
    """`/ops/merchants/{merchant_id}`"""

    async def get(self, request: web.Request, merchant_id: str) -> web.Response:
        """Status, purchases, what happened and what each credit came from."""
        session = self.session(request)
        merchant_id = merchant_id.lower()
        page, bought = page_of(request, LIMIT), page_of(request, PURCHASES, "bought")
        credits_only = request.query.get("only") == "credits"
        found, timeline = await asyncio.gather(
            self._read(merchant_id, bought, ids_of(request)),
            self._timeline(merchant_id, page, credits_only),
        )
        merchant = known(found.merchant)
        now = datetime.now(UTC)
        return self.page(
            request,
            "merchant.html",
            session,
            merchant=merchant,
            trial=trial_words(merchant, now),
            clock=merchant.time(now) if merchant.time(now) > now else None,
            purchases=found.purchases,
            bought=bought.of(found.total),
            timeline=timeline,
            credits_only=credits_only,
            partition=self.context.owners.partition_of(merchant_id),
            done=request.query.get("done"),
        )

    async def _read(self, merchant_id: str, bought: Page, ids: Ids) -> MerchantFound:
        query = ReadMerchant(merchant_id, bought.skip, bought.limit)
        return await self.context.owners.read(query, ids)

    async def _timeline(self, merchant_id: str, page: Page, credits_only: bool) -> Timeline:
        projected = self.dashboard.projected
        if not projected.there:
            return Timeline([], None, "needs")
        try:
            entries, total = await projected.timeline(merchant_id, page, credits_only=credits_only)
        except ApiError:
            return Timeline([], None, "away")
        return Timeline(entries, page.of(total), None)


def trial_words(merchant: Merchant, now: datetime) -> str:
    """How the trial stands, in a word or two."""
    if merchant.trial_available:
        return "not used"
    return "running" if merchant.trial_active(merchant.time(now)) else "over"


def _shops(domain: str) -> list[str]:
    return [shop_key(platform, domain) for platform in Platform]
