"""A fake platform per test, and limits that do not make tests wait."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio

from billing_stream.platforms.base import CheckoutRequest
from billing_stream.platforms.platform_http import Http, Limits
from tests.platforms.fake import FakePlatform, fake_platform

MERCHANT = "11111111-1111-4111-8111-111111111111"
PURCHASE = "22222222-2222-4222-8222-222222222222"
SHOP = "one.myshopify.com"
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)

QUICK = Limits(
    connect_seconds=0.5,
    attempt_seconds=0.5,
    total_seconds=1.5,
    first_wait_seconds=0.005,
    wait_seconds_max=0.02,
)


def request_for(**changes: object) -> CheckoutRequest:
    """A purchase that waits for payment; `changes` replace what it has."""
    fields: dict[str, object] = {
        "merchant_id": MERCHANT,
        "purchase_id": PURCHASE,
        "shop_domain": SHOP,
        "title": "500 credits",
        "credits": 500,
        "amount": "39.99",
        "currency": "USD",
        "return_url": "https://app.example/billing?done=1",
        "cancel_url": "https://app.example/billing?done=0",
        "created_at": NOW,
        "expires_at": NOW + timedelta(hours=24),
        **changes,
    }
    return CheckoutRequest(**fields)  # type: ignore[arg-type]


def quick(name: str, limits: Limits = QUICK) -> Http:
    """A client that gives up soon."""
    return Http(name, limits=limits)


@pytest_asyncio.fixture
async def fake() -> AsyncIterator[FakePlatform]:
    """A platform that says what the test tells it to."""
    async with fake_platform() as found:
        yield found


@pytest.fixture
def purchase() -> CheckoutRequest:
    """A purchase of 500 credits for 39.99 USD."""
    return request_for()
