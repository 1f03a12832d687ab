"""What each adapter promises, whatever its platform does."""

import logging
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from msgspec import Struct

from billing_stream.errors import CheckoutRefused, PlatformError, TemporaryFailure
from billing_stream.platforms.base import Checkout, CheckoutRequest, Platform
from billing_stream.platforms.custom import Custom
from billing_stream.platforms.platform_http import Http, Limits
from billing_stream.platforms.shopify import Shopify
from billing_stream.platforms.stripe import Stripe
from billing_stream.platforms.tokens import EnvironmentTokens
from tests.platforms.conftest import QUICK, SHOP, quick
from tests.platforms.fake import FakePlatform, Reply

TOKEN = "token-of-the-shop-51f0"
KEY = "key-of-the-account-77aa"
SECRET = "secret-of-the-gateway-0123456789ab"
PAGE = "https://pay.example/1"


def shopify(url: str, http: Http) -> Platform:
    return Shopify(
        EnvironmentTokens(f'{{"{SHOP}": "{TOKEN}"}}'),
        api_url=url,
        api_version="2026-10",
        test=True,
        secrets=[SECRET],
        http=http,
    )


def stripe(url: str, http: Http) -> Platform:
    return Stripe(KEY, api_url=url, secrets=[SECRET], http=http)


def custom(url: str, http: Http) -> Platform:
    return Custom(f"{url}/checkouts", secrets=[SECRET], http=http)


def shopify_says(url: str) -> Any:
    return {
        "data": {
            "appPurchaseOneTimeCreate": {
                "appPurchaseOneTime": {"id": "c1"},
                "confirmationUrl": url,
                "userErrors": [],
            }
        }
    }


class Case(Struct):
    """One adapter against the fake platform."""

    name: str
    new: Callable[[str, Http], Platform]
    says: Callable[[str], Any]
    fake: FakePlatform
    platform: Platform

    def under(self, limits: Limits, url: str | None = None) -> Platform:
        """The adapter with other limits, or elsewhere."""
        return self.new(url or self.fake.url, quick(self.name, limits))

    @property
    def test(self) -> bool:
        """Whether its charges cost nothing: it is set up so."""
        return self.name == "shopify"

    @property
    def good(self) -> Reply:
        """The documented answer."""
        return Reply(body=self.says(PAGE))


CASES: dict[str, tuple[Callable[[str, Http], Platform], Callable[[str], Any]]] = {
    "shopify": (shopify, shopify_says),
    "stripe": (stripe, lambda url: {"id": "c1", "object": "checkout.session", "url": url}),
    "gateway": (custom, lambda url: {"charge_id": "c1", "checkout_url": url}),
}


@pytest_asyncio.fixture(params=CASES)
async def case(request: pytest.FixtureRequest, fake: FakePlatform) -> AsyncIterator[Case]:
    new, says = CASES[request.param]
    platform = new(fake.url, quick(request.param))
    yield Case(request.param, new, says, fake, platform)
    await platform.close()


async def error_text(platform: Platform, purchase: CheckoutRequest) -> str:
    with pytest.raises(PlatformError) as raised:
        await platform.create_checkout(purchase)
    return str(raised.value)


async def test_a_checkout_has_the_charge_and_the_page(
    case: Case, purchase: CheckoutRequest
) -> None:
    case.fake.replies(case.good)

    assert await case.platform.create_checkout(purchase) == Checkout("c1", PAGE, test=case.test)
    assert len(case.fake.asked) == 1


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
async def test_a_fault_that_passes_is_not_noticed(
    case: Case, purchase: CheckoutRequest, status: int
) -> None:
    case.fake.replies(Reply(status=status), Reply(status=status), case.good)

    assert await case.platform.create_checkout(purchase) == Checkout("c1", PAGE, test=case.test)
    assert len(case.fake.asked) == 3
    first, *more = [(one.method, one.path, one.body) for one in case.fake.asked]
    assert all(one == first for one in more), "an attempt is the same request again"
    keys = {one.headers.get("Idempotency-Key") for one in case.fake.asked}
    # Stripe repeats a fault for the key it was given first.
    assert len(keys) == (3 if case.name == "stripe" and status in (500, 502, 504) else 1)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
async def test_a_fault_that_stays_is_a_temporary_failure(
    case: Case, purchase: CheckoutRequest, status: int
) -> None:
    case.fake.replies(Reply(status=status))

    with pytest.raises(TemporaryFailure):
        await case.platform.create_checkout(purchase)


async def test_a_fault_that_stays_is_tried_three_times(
    case: Case, purchase: CheckoutRequest
) -> None:
    case.fake.replies(Reply(status=500, body=b"stack trace"))

    text = await error_text(case.platform, purchase)

    assert text == f"{case.name} has a fault of its own (HTTP 500)"
    assert len(case.fake.asked) == 3


async def test_a_busy_platform_is_asked_again_when_it_says(
    case: Case, purchase: CheckoutRequest
) -> None:
    slept = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    platform = case.new(case.fake.url, Http(case.name, sleep=sleep))
    case.fake.replies(Reply(status=429, headers={"Retry-After": "3"}), case.good)

    assert await platform.create_checkout(purchase) == Checkout("c1", PAGE, test=case.test)
    assert slept == [3.0]
    await platform.close()


@pytest.mark.parametrize(
    "after", ["2", "2.0", "3600.5", "3600", "99999999999", "Fri, 31 Dec 2100 23:59:59 GMT"]
)
async def test_a_platform_that_is_busy_for_long_is_given_up_at_once(
    case: Case, purchase: CheckoutRequest, after: str
) -> None:
    case.fake.replies(Reply(status=429, headers={"Retry-After": after}), case.good)
    start = time.monotonic()

    assert await error_text(case.platform, purchase) == f"{case.name} is busy"
    assert time.monotonic() - start < 0.5
    assert len(case.fake.asked) == 1


@pytest.mark.parametrize("after", ["soon", "-5", "1.5x", "", "Thu, 01 Jan 1970 00:00:00 -0000"])
async def test_a_retry_after_that_means_nothing_delays_nothing(
    case: Case, purchase: CheckoutRequest, after: str
) -> None:
    case.fake.replies(Reply(status=503, headers={"Retry-After": after}), case.good)

    assert await case.platform.create_checkout(purchase) == Checkout("c1", PAGE, test=case.test)


@pytest.mark.parametrize("status", [400, 402, 404, 405, 410, 418, 422])
async def test_a_refusal_is_not_tried_again(
    case: Case, purchase: CheckoutRequest, status: int
) -> None:
    case.fake.replies(Reply(status=status, body=b"<html>no</html>"), case.good)

    with pytest.raises(CheckoutRefused) as raised:
        await case.platform.create_checkout(purchase)
    assert str(raised.value) == f"{case.name} refuses the checkout: HTTP {status}"
    assert len(case.fake.asked) == 1


async def test_a_refusal_that_is_explained_is_passed_on_in_one_short_line(
    case: Case, purchase: CheckoutRequest
) -> None:
    message = "No such\n\x1b[31mcurrency\x00 for sk_live_abc123 " + "x" * 500
    case.fake.replies(Reply(status=400, body={"error": {"message": message, "type": "t"}}))

    text = await error_text(case.platform, purchase)

    assert text.startswith(f"{case.name} refuses the checkout: No such [31mcurrency for *** xxx")
    assert len(text) == len(f"{case.name} refuses the checkout: ") + 200
    assert text.isprintable()


@pytest.mark.parametrize("status", [401, 403])
async def test_refused_credentials_are_said_to_be_so(
    case: Case, purchase: CheckoutRequest, status: int
) -> None:
    case.fake.replies(Reply(status=status, body={"error": {"message": f"bad key {KEY}"}}))

    text = await error_text(case.platform, purchase)

    assert text == f"{case.name} refuses our credentials"
    assert len(case.fake.asked) == 1, "the only token there is need not be refused twice"


async def test_redirects_are_not_followed(case: Case, purchase: CheckoutRequest) -> None:
    case.fake.replies(Reply(status=307, headers={"Location": "/elsewhere"}), case.good)

    text = await error_text(case.platform, purchase)

    assert text == f"{case.name} gave an answer that is not understood"
    assert len(case.fake.asked) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"<html>",
        b"null",
        b"[]",
        b"{}",
        b'{"data": null}',
        b'{"id": 5, "charge_id": 5, "data": 5}',
        b"\xff\xfe",
        b'{"data":' * 5000,
        b'{"x":' + b"[" * 5000 + b"]" * 5000 + b"}",
    ],
    ids=lambda body: repr(body[:20]),
)
async def test_an_answer_that_is_not_as_documented_is_no_checkout(
    case: Case, purchase: CheckoutRequest, body: bytes
) -> None:
    case.fake.replies(Reply(body=body))

    text = await error_text(case.platform, purchase)

    assert text == f"{case.name} gave an answer that is not understood"
    assert len(case.fake.asked) == 1


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "ftp://x/y",
        "//x/y",
        "/y",
        "",
        "https://",
        "http://[x/",
        "https://x/\ny",
        "https://x/" + "y" * 2048,
    ],
)
async def test_a_page_that_no_browser_should_be_sent_to_is_no_checkout(
    case: Case, purchase: CheckoutRequest, url: str
) -> None:
    case.fake.replies(Reply(body=case.says(url)))

    text = await error_text(case.platform, purchase)

    assert text == f"{case.name} gave an answer that is not understood"


async def test_a_huge_answer_is_not_read_to_its_end(case: Case, purchase: CheckoutRequest) -> None:
    good = case.says(PAGE)
    case.fake.replies(Reply(body={**good, "more": "x" * (1 << 20)}))

    text = await error_text(case.platform, purchase)

    assert text == f"{case.name} gave an answer that is not understood"


async def test_a_silent_platform_costs_no_more_than_the_budget(
    case: Case, purchase: CheckoutRequest
) -> None:
    limits = Limits(attempt_seconds=0.5, total_seconds=0.6, first_wait_seconds=0.01)
    platform = case.under(limits)
    case.fake.replies(Reply(after_seconds=1.5, body=case.says(PAGE)))
    start = time.monotonic()

    assert await error_text(platform, purchase) == f"{case.name} does not answer"
    assert 0.59 <= time.monotonic() - start < 0.95
    assert len(case.fake.asked) == 2
    await platform.close()


async def test_a_slow_answer_is_asked_for_again(case: Case, purchase: CheckoutRequest) -> None:
    platform = case.under(Limits(attempt_seconds=0.1, first_wait_seconds=0.01))
    case.fake.replies(Reply(after_seconds=0.3), case.good)

    assert await platform.create_checkout(purchase) == Checkout("c1", PAGE, test=case.test)
    await platform.close()


async def test_nobody_there_is_no_checkout(case: Case, purchase: CheckoutRequest) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        platform = case.under(QUICK, f"http://127.0.0.1:{taken.getsockname()[1]}")

        assert await error_text(platform, purchase) == f"{case.name} does not answer"
    await platform.close()


@pytest.mark.parametrize("url", ["http://x:y", "http://\x00", "http://" + "a" * 70 + ".b:0"])
async def test_a_malformed_address_is_an_error_like_any_other(
    case: Case, purchase: CheckoutRequest, url: str
) -> None:
    platform = case.under(QUICK, url)

    assert await error_text(platform, purchase) in (
        f"{case.name} cannot be asked: a setting is malformed",
        f"{case.name} does not answer",
    )
    await platform.close()


async def test_no_secret_is_told_or_logged(
    case: Case, purchase: CheckoutRequest, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    replies = [
        Reply(status=401, body={"error": {"message": f"key {KEY} {TOKEN}"}}),
        Reply(status=500, body=f"{KEY} {TOKEN} {SECRET}".encode()),
        Reply(status=429),
        Reply(body=f'{{"{KEY} {TOKEN} {SECRET}": '.encode()),
        Reply(status=302, headers={"Location": f"/{TOKEN}"}),
    ]
    told = ""
    for reply in replies:
        case.fake.replies(reply)
        with pytest.raises(PlatformError) as raised:
            await case.platform.create_checkout(purchase)
        error: BaseException | None = raised.value
        while error is not None:
            told += repr(error)
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)

    assert "has a fault of its own (HTTP 500)" in caplog.text
    for secret in (KEY, TOKEN, SECRET, "v1="):
        assert secret not in told + caplog.text


TEST_FLAGS = [
    ("shopify", ("data", "appPurchaseOneTimeCreate", "appPurchaseOneTime"), {"test": False}, False),
    ("stripe", (), {"livemode": False}, True),
    ("stripe", (), {"livemode": True}, False),
    ("gateway", (), {"test": True}, True),
]


@pytest.mark.parametrize(("name", "path", "said", "test"), TEST_FLAGS)
async def test_a_checkout_is_a_test_when_the_platform_says_so(
    name: str,
    path: tuple[str, ...],
    said: dict[str, bool],
    test: bool,
    fake: FakePlatform,
    purchase: CheckoutRequest,
) -> None:
    new, says = CASES[name]
    body = says(PAGE)
    part = body
    for key in path:
        part = part[key]
    part.update(said)
    platform = new(fake.url, quick(name))
    fake.replies(Reply(body=body))

    assert await platform.create_checkout(purchase) == Checkout("c1", PAGE, test=test)
    await platform.close()
