"""How a worker is asked: the request is signed, and sent to addresses of workers only."""

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType

import aiohttp
import msgspec
from yarl import URL

from billing_stream.config.settings import Settings
from billing_stream.observability.tracing.spans import Tracing
from billing_stream.web.auth import EXPIRED, NOT_VALID, NOT_YET_VALID
from billing_stream.web.envelope import CORRELATION_ID, REQUEST_ID, Ids
from billing_stream.web.peer_tokens import Call, sign

# Each worker tells another of itself there; it is what is asked to see whether it answers.
FIGURES_PATH = "/internal/ops/figures"
CONNECT_SECONDS = 0.5
CONNECTIONS_MAX = 256
NOT_ALLOWED = "is not asked: BILLING_PEERS does not match its address"
# What a worker says of our token, and what that means.
_REASONS: Mapping[str, str] = MappingProxyType(
    {
        NOT_VALID: "refuses our tokens: INTERNAL_JWT_SECRET differs",
        EXPIRED: "refuses our tokens: clocks differ by more than 30 s",
        NOT_YET_VALID: "refuses our tokens: clocks differ by more than 30 s",
    }
)

# A name that no resolver takes is a UnicodeError.
NEVER_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, UnicodeError)
AWAY = (aiohttp.ClientError, TimeoutError, OSError, *NEVER_SENT)


class AddressNotAllowed(Exception):
    """BILLING_PEERS does not match the address, and nothing was sent."""


class PeerClient:
    """Sends calls to workers; remembers which of them refuse our tokens, and why."""

    def __init__(self, settings: Settings, tracing: Tracing | None = None) -> None:
        self._secret = settings.internal_jwt_secrets[0]
        self._addresses = settings.peer_addresses
        self._old_tokens = settings.old_peer_tokens
        self._tracing = tracing
        # Apart, because commands may wait long, and must not keep queries waiting.
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        self._refusing: dict[str, str] = {}

    def allows(self, url: str) -> bool:
        """Whether it is the address of a worker."""
        return self._addresses.allow(url)

    def trouble(self, url: str) -> str | None:
        """Why a worker is asked in vain or not at all; None where nothing is known to be wrong."""
        return self._refusing.get(url) if self.allows(url) else NOT_ALLOWED

    def keep(self, urls: set[str]) -> None:
        """Forget the troubles of others than these."""
        self._refusing = {url: why for url, why in self._refusing.items() if url in urls}

    async def send(self, call: Call, ids: Ids, seconds: float) -> tuple[int, bytes]:
        """The status and body of an answer. Raises `AWAY` and AddressNotAllowed."""
        url = call.address
        if not self.allows(url):
            raise AddressNotAllowed
        async with self._session(call.method == "GET").request(
            call.method,
            URL(str(URL(url).origin()) + call.target, encoded=True),
            headers=self._headers(call, ids),
            data=call.body or None,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(seconds, connect=CONNECT_SECONDS),
        ) as response:
            status, body = response.status, await response.read()
        if status == HTTPStatus.UNAUTHORIZED:
            self._refusing[url] = _why(body)
        elif status == HTTPStatus.OK:
            self._refusing.pop(url, None)
        return status, body

    def _headers(self, call: Call, ids: Ids) -> dict[str, str]:
        headers = sign(call, self._secret, old=self._old_tokens)
        headers[REQUEST_ID] = ids.request_id
        headers[CORRELATION_ID] = ids.correlation_id
        if self._tracing is not None:
            headers.update(self._tracing.passed_on())
        return headers

    def _session(self, reads: bool) -> aiohttp.ClientSession:
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


class _Error(msgspec.Struct):
    message: str


class _Refusal(msgspec.Struct):
    error: _Error


def _why(body: bytes) -> str:
    """Why a worker refuses a token; none of its own words, since it may be anyone."""
    try:
        message = msgspec.json.decode(body, type=_Refusal).error.message
    except (msgspec.DecodeError, UnicodeDecodeError):
        message = ""
    return _REASONS.get(message, "refuses our tokens")
