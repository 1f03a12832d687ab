"""Asking a platform: bounded in time, attempts and size, and silent about secrets.

A checkout is opened while a merchant waits, so all attempts together have 8 s: less than the
deadline of the request they are made in.
"""

import asyncio
import logging
import re
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TypeVar

import httpx
from msgspec import Struct
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    wait_exponential_jitter,
)

from billing_stream.domain.purchases import REFUSES
from billing_stream.errors import CheckoutRefused, PlatformError, TemporaryFailure
from billing_stream.platforms.refusal_text import refusal_text
from billing_stream.platforms.webhook_text import clean, decode, is_page

_NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?", re.ASCII)
logger = logging.getLogger(__name__)

T = TypeVar("T")


class Limits(Struct, frozen=True, kw_only=True):
    """How long, how often and how much. `total_seconds` covers all attempts and waits."""

    connect_seconds: float = 2.0
    attempt_seconds: float = 4.0
    total_seconds: float = 8.0
    attempts_max: int = 3
    first_wait_seconds: float = 0.2
    wait_seconds_max: float = 2.0
    answer_bytes_max: int = 1 << 20


LOOKUP_LIMITS = Limits(
    total_seconds=60.0,
    attempts_max=4,
    first_wait_seconds=1.0,
    wait_seconds_max=20.0,
)
"""Of look-ups: no client waits for them, and an expiry for this minute at most."""


class PlatformResponse(Struct, frozen=True):
    """What came back, whole."""

    status: int
    body: bytes


class CredentialsRefused(PlatformError):
    """The platform does not take our key or token."""


class TryLater(TemporaryFailure):
    """It may work in a moment: in `after_seconds`, where the platform states it."""

    def __init__(self, text: str, after_seconds: float | None = None) -> None:
        super().__init__(text)
        self.after_seconds = after_seconds


class AnswerKept(TryLater):
    """The platform may keep this answer under the request's key: a new one is for a new key."""


class Http:
    """A client of one service; `name` is what error texts and log lines call it.

    `clock` (seconds) and `sleep` are for tests.
    """

    def __init__(
        self,
        name: str,
        *,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.name = name
        self._limits = limits or Limits()
        self._clock = clock
        self._sleep = sleep
        self._client = httpx.AsyncClient(
            verify=_certificates(),
            timeout=httpx.Timeout(
                self._limits.attempt_seconds, connect=self._limits.connect_seconds
            ),
            follow_redirects=False,
            # Shops share this client; what one of them sets is no business of another.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            # Compressed, a small answer could become a huge one.
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
        )

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        content: bytes | None = None,
        read: Callable[[PlatformResponse], T],
        new_key: Callable[[], str] | None = None,
        limits: Limits | None = None,
    ) -> T:
        """What `read` makes of the answer.

        Tried again, with growing waits: no connection, no answer in time, 408, 425, 429, 5xx, and
        when `read` raises TryLater. Every other status is left to `read`. Raises PlatformError.
        `new_key` makes the Idempotency-Key of an attempt after AnswerKept. `limits` are those of
        the client unless others are given.
        """
        limits = limits or self._limits
        deadline = self._clock() + limits.total_seconds
        sent = dict(headers)

        async def attempt() -> T:
            seconds = min(limits.attempt_seconds, deadline - self._clock())
            try:
                return read(await self._exchange(method, url, sent, content, seconds))
            except AnswerKept:
                if new_key is not None:
                    sent["Idempotency-Key"] = new_key()
                raise

        def stop(state: RetryCallState) -> bool:
            over = self._clock() + state.upcoming_sleep >= deadline
            return over or state.attempt_number >= limits.attempts_max

        retrying = AsyncRetrying(
            sleep=self._sleep,
            retry=retry_if_exception_type(TryLater),
            wait=_waits(limits),
            stop=stop,
            before_sleep=self._log_retry,
            reraise=True,
        )
        return await retrying(attempt)

    @asynccontextmanager
    async def budget(self) -> AsyncIterator[None]:
        """Several requests within the time of one. Raises TemporaryFailure when it is over."""
        try:
            async with asyncio.timeout(self._limits.total_seconds):
                yield
        except TimeoutError:
            raise TemporaryFailure(f"{self.name} does not answer") from None

    def decode(self, body: bytes, form: type[T]) -> T:
        """The body of an answer as a struct. Raises PlatformError when it is not one."""
        try:
            return decode(body, form)
        except ValueError:
            raise self.not_understood() from None

    def page(self, url: str | None) -> str:
        """The address of a checkout page. Raises PlatformError when it is not one."""
        if url is None or not is_page(url):
            raise self.not_understood()
        return url

    def not_understood(self) -> PlatformError:
        """The error for an answer that is not as documented."""
        return PlatformError(f"{self.name} gave an answer that is not understood")

    def busy(self) -> TryLater:
        """The error for a platform that asks us to slow down."""
        return TryLater(f"{self.name} is busy")

    def refusal(self, answer: PlatformResponse) -> PlatformError:
        """The error for a status that is not 2xx, with what the body says of it."""
        if answer.status in (401, 403):
            return CredentialsRefused(f"{self.name} refuses our credentials")
        if answer.status < 400:
            return self.not_understood()
        return self.refused(refusal_text(answer.body), f"HTTP {answer.status}")

    def refused(self, text: str, otherwise: str = "no reason is given") -> CheckoutRefused:
        """The error for a refusal that the platform explains; `otherwise` where it does not."""
        return CheckoutRefused(f"{self.name} {REFUSES}{clean(text) or otherwise}")

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _exchange(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        content: bytes | None,
        seconds: float,
    ) -> PlatformResponse:
        # Nothing is chained: the texts of some of these errors have a header or a body.
        try:
            async with (
                asyncio.timeout(seconds),
                self._client.stream(method, url, headers=headers, content=content) as response,
            ):
                self._require_no_retry(response)
                return PlatformResponse(response.status_code, await self._body(response))
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError, ValueError):
            raise PlatformError(f"{self.name} cannot be asked: a setting is malformed") from None
        except (TimeoutError, httpx.HTTPError):
            raise TryLater(f"{self.name} does not answer") from None

    def _require_no_retry(self, response: httpx.Response) -> None:
        status = response.status_code
        if status in (429, 503):
            after = _seconds(response.headers.get("Retry-After", ""))
            raise TryLater(f"{self.name} is busy", after)
        if status in (408, 425):
            raise TryLater(f"{self.name} does not answer")
        if status >= 500:
            raise AnswerKept(f"{self.name} has a fault of its own (HTTP {status})")

    async def _body(self, response: httpx.Response) -> bytes:
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > self._limits.answer_bytes_max:
                raise self.not_understood()
        return bytes(body)

    def _log_retry(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        logger.warning(
            "%s; attempt %d is made in %.1f s",
            error,
            state.attempt_number + 1,
            state.upcoming_sleep,
        )


def _waits(limits: Limits) -> Callable[[RetryCallState], float]:
    """What comes before the next attempt, in seconds: what the platform says, or growing waits."""
    first = limits.first_wait_seconds
    backoff = wait_exponential_jitter(initial=first, max=limits.wait_seconds_max, jitter=first)

    def seconds(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, TryLater) and error.after_seconds is not None:
            return error.after_seconds
        return backoff(state)

    return seconds


@cache
def _certificates() -> ssl.SSLContext:
    """Read once: it takes longer than all else that a client needs."""
    return httpx.create_ssl_context()


def _seconds(retry_after: str) -> float | None:
    """`Retry-After` in seconds, be it a number or a date; None when it is neither."""
    text = retry_after.strip()
    if _NUMBER.fullmatch(text):
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
