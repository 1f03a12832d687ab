"""The other workers: who owns a partition, and how they are asked. One hop, never more."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import aiohttp
from yarl import URL

from billing_stream.engine.partition_processor import FAILED
from billing_stream.faust_adapter.assignment import Distribution, distribution, own_url
from billing_stream.faust_adapter.faust_app import App
from billing_stream.observability.tracing.spans import Tracing
from billing_stream.web.auth import internal_headers
from billing_stream.web.envelope import (
    CORRELATION_ID,
    REQUEST_ID,
    ApiError,
    Ids,
    WebCode,
    not_ready,
)

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 0.5
CONNECTIONS_MAX = 256


class Peers:
    """Sends requests to the workers that own the partitions."""

    def __init__(
        self,
        app: App,
        *,
        changelog: str,
        internal_secret: str,
        tracing: Tracing | None = None,
    ) -> None:
        self._app = app
        self._changelog = changelog
        self._secret = internal_secret
        self._tracing = tracing
        # Apart, because commands may wait long, and must not keep queries waiting.
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        self._assignment: Distribution | None = None
        self._urls: Mapping[int, str] = {}
        self._noted: set[str] = set()

    @property
    def own_url(self) -> str:
        """Where others reach this worker."""
        return own_url(self._app)

    def assigned(self) -> dict[str, list[int]]:
        """The workers and their partitions, by the latest assignment that we know."""
        found = distribution(self._app)
        return {url: list(topics.get(self._changelog, ())) for url, topics in found.items()}

    def url_of(self, partition: int) -> str | None:
        """The worker that owns the partition, by the latest assignment that we know."""
        assignment = distribution(self._app)
        if assignment is not self._assignment:
            self._urls = {
                partition: url
                for url, topics in assignment.items()
                for partition in topics.get(self._changelog, ())
            }
            self._assignment = assignment
            self._noted.clear()
        return self._urls.get(partition)

    async def ask(
        self, method: str, partition: int, path: str, ids: Ids, seconds: float, **options: Any
    ) -> bytes:
        """The body of the owner's good answer.

        Raises ApiError: NOT_READY when surely nothing was done (nobody owns the partition,
        the owner cannot be reached, or refuses); OUTCOME_UNKNOWN when a request other than
        GET was sent and not answered.
        """
        url = self.url_of(partition)
        if url is None or url == self.own_url:
            raise not_ready(f"partition {partition} is recovering")
        try:
            status, body = await self._exchange(method, url, path, ids, seconds, **options)
        except _AWAY as error:
            # Not the error itself: some show the headers of the request, and so a token.
            self.note(logging.WARNING, url, f"does not answer: {type(error).__name__}")
            if method == "GET" or isinstance(error, _NEVER_SENT):
                raise not_ready(f"the owner of partition {partition} does not answer") from None
            raise outcome_unknown("the worker that was asked did not answer") from None
        if status == HTTPStatus.OK:
            self._noted.discard(url)
            return body
        if status == HTTPStatus.INTERNAL_SERVER_ERROR and FAILED.encode() in body:
            raise ApiError(WebCode.INTERNAL_ERROR, FAILED)
        if status != HTTPStatus.SERVICE_UNAVAILABLE:
            level = logging.WARNING if status == HTTPStatus.GATEWAY_TIMEOUT else logging.ERROR
            self.note(level, url, f"refuses a worker of ours with {status}")
            if method != "GET" and status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise outcome_unknown("the worker that was asked has not done it")
        raise not_ready(f"the owner of partition {partition} is not ready")

    async def ask_at(self, url: str, path: str, ids: Ids, seconds: float) -> bytes:
        """The body of the good answer of one worker, whatever it owns, to a GET.

        Raises ApiError (NOT_READY).
        """
        try:
            status, body = await self._exchange("GET", url, path, ids, seconds)
        except _AWAY as error:
            raise not_ready(f"{url} does not answer: {type(error).__name__}") from None
        if status != HTTPStatus.OK:
            raise not_ready(f"{url} answers with {status}")
        return body

    def not_understood(self, partition: int, error: Exception) -> ApiError:
        """What is said when the answer of an owner makes no sense; logged once."""
        self.note(logging.ERROR, self.url_of(partition) or "?", f"is not understood: {error}")
        return not_ready(f"the owner of partition {partition} is not understood")

    def note(self, level: int, url: str, why: str) -> None:
        """Log what is wrong with a worker: once, until it answers or partitions move."""
        if url not in self._noted:
            self._noted.add(url)
            logger.log(level, "the worker at %s %s", url, why)

    async def _exchange(
        self, method: str, url: str, path: str, ids: Ids, seconds: float, **options: Any
    ) -> tuple[int, bytes]:
        """The status and body of an answer. Raises what is in `_AWAY`."""
        async with self._client(method == "GET").request(
            method,
            URL(url) / path[1:],
            headers=self._headers(ids),
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(seconds, connect=CONNECT_SECONDS),
            **options,
        ) as response:
            return response.status, await response.read()

    def _headers(self, ids: Ids) -> dict[str, str]:
        headers = internal_headers(self._secret)
        headers[REQUEST_ID] = ids.request_id
        headers[CORRELATION_ID] = ids.correlation_id
        if self._tracing is not None:
            headers.update(self._tracing.passed_on())
        return headers

    def _client(self, reads: bool) -> aiohttp.ClientSession:
        if reads not in self._sessions:
            self._sessions[reads] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._sessions[reads]

    async def close(self) -> None:
        """Close the connections to other workers."""
        while self._sessions:
            await self._sessions.popitem()[1].close()


_AWAY = (aiohttp.ClientError, TimeoutError, OSError)
_NEVER_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


def outcome_unknown(why: str) -> ApiError:
    """The answer when a command may have been carried out, or may be still."""
    return ApiError(
        WebCode.OUTCOME_UNKNOWN,
        f"{why}: whether the request was carried out is not known. Repeating it with the same "
        "idempotency key is safe, and gives the one true answer",
    )
