"""The bounds of asking a platform, on a clock of the test's own."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import pytest_asyncio

from billing_stream.errors import PlatformError
from billing_stream.platforms.platform_http import Http, Limits, PlatformResponse
from tests.platforms.fake import FakePlatform, Reply


class Time:
    """Passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest_asyncio.fixture
async def time() -> AsyncIterator[Time]:
    yield Time()


@pytest_asyncio.fixture
async def http(time: Time) -> AsyncIterator[Http]:
    client = Http("x", clock=time.clock, sleep=time.sleep)
    yield client
    await client.close()


async def get(http: Http, fake: FakePlatform) -> PlatformResponse:
    return await http.send("GET", fake.url, headers={}, read=lambda answer: answer)


def test_all_attempts_end_before_the_request_they_serve() -> None:
    limits = Limits()

    assert limits.connect_seconds == 2
    assert limits.attempt_seconds == 4
    assert limits.total_seconds == 8
    assert limits.attempts_max == 3
    assert limits.answer_bytes_max == 1 << 20


async def test_the_waits_grow_and_are_not_alike(http: Http, time: Time, fake: FakePlatform) -> None:
    fake.replies(Reply(status=500))
    for _ in range(4):
        with pytest.raises(PlatformError):
            await get(http, fake)

    first, second = time.slept[::2], time.slept[1::2]
    assert len(time.slept) == 8
    assert all(0.2 <= wait <= 0.4 for wait in first)
    assert all(0.4 <= wait <= 0.6 for wait in second)
    assert len(set(time.slept)) == 8, "many merchants at once must not come back at once"


@pytest.mark.parametrize("after", ["7", "7.0", "07", "7."])
@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_obeyed_to_the_second(
    http: Http, time: Time, fake: FakePlatform, status: int, after: str
) -> None:
    fake.replies(Reply(status=status, headers={"Retry-After": after}), Reply(body=b"ok"))

    assert await get(http, fake) == PlatformResponse(200, b"ok")
    assert time.slept == [7.0]


async def test_retry_after_may_be_a_date(http: Http, time: Time, fake: FakePlatform) -> None:
    moment = datetime.now(UTC) + timedelta(seconds=5)
    date = format_datetime(moment, usegmt=True)
    fake.replies(Reply(status=503, headers={"Retry-After": date}), Reply(body=b"ok"))

    await get(http, fake)

    assert len(time.slept) == 1
    assert 3.5 <= time.slept[0] <= 5


async def test_what_does_not_fit_in_the_budget_is_not_waited_for(
    http: Http, time: Time, fake: FakePlatform
) -> None:
    fake.replies(
        Reply(status=429, headers={"Retry-After": "5"}),
        Reply(status=429, headers={"Retry-After": "3"}),
    )
    with pytest.raises(PlatformError, match="x is busy"):
        await get(http, fake)

    assert time.slept == [5.0]
    assert len(fake.asked) == 2


async def test_an_answer_may_be_as_long_as_the_bound(http: Http, fake: FakePlatform) -> None:
    fake.replies(Reply(body=b"x" * (1 << 20)), Reply(body=b"x" * ((1 << 20) + 1)))

    assert len((await get(http, fake)).body) == 1 << 20
    with pytest.raises(PlatformError, match="not understood"):
        await get(http, fake)


async def test_no_compression_is_asked_for_and_no_cookie_kept(
    http: Http, fake: FakePlatform
) -> None:
    fake.replies(Reply(headers={"Set-Cookie": "a=b; Path=/"}))
    await get(http, fake)
    await get(http, fake)

    assert fake.asked[1].headers["Accept-Encoding"] == "identity"
    assert "Cookie" not in fake.asked[1].headers


@pytest.mark.parametrize("value", ["tok\nen", "tok\x00en", "tökén", "\udcff"])
async def test_a_header_that_cannot_be_sent_is_not_shown(
    http: Http, fake: FakePlatform, value: str
) -> None:
    fake.replies(Reply())
    with pytest.raises(PlatformError, match="x cannot be asked") as told:
        await http.send("GET", fake.url, headers={"X-Token": value}, read=lambda answer: answer)

    assert told.value.__suppress_context__
    assert fake.asked == []
