"""Where the access tokens of shops come from: the environment, a file or a service.

The program that installs the app in shops obtains them; this service only looks them up.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Protocol
from urllib.parse import quote

from msgspec import Meta, Struct

from billing_stream.domain.shop_names import shop_domain
from billing_stream.errors import CheckoutRefused, PlatformError, SettingsError
from billing_stream.platforms.platform_http import Http, PlatformResponse
from billing_stream.platforms.webhook_text import decode

logger = logging.getLogger(__name__)

CACHE_SECONDS = 300.0
CACHED_SHOPS_MAX = 10_000

# What can stand in a header: an error about one that cannot would show it.
_Token = Annotated[str, Meta(pattern=r"^[!-~]{1,1024}\Z")]


TokenHeaders = Callable[[str], dict[str, str]]
"""What the service of access tokens is shown when it is asked for that of a shop."""


class TokenProvider(Protocol):
    """Knows the access token of each shop."""

    async def token_of(self, shop: str) -> str:
        """The token of `shop` (its domain, see `shop_names`). Raises PlatformError without one."""

    def shops(self) -> list[str]:
        """The shops with a token, sorted, where they are listed."""

    def forget(self, shop: str) -> None:
        """The token of `shop` was refused: the next look-up may not come from a cache."""

    async def close(self) -> None:
        """Close the connections."""


class EnvironmentTokens:
    """Tokens given once, as JSON text {"shop domain": "token"}.

    Raises SettingsError, which shows no value, when `text` is malformed.
    """

    def __init__(self, text: str) -> None:
        try:
            self._tokens = _parse(text.encode())
        except ValueError:
            raise SettingsError(
                'SHOPIFY_ACCESS_TOKENS is not a JSON object {"shop domain": "token"}'
            ) from None

    async def token_of(self, shop: str) -> str:
        """The token of `shop`. Raises PlatformError without one."""
        return _known(self._tokens, shop)

    def shops(self) -> list[str]:
        """All of them."""
        return sorted(self._tokens)

    def forget(self, shop: str) -> None:
        """Nothing: there is nowhere else to look."""

    async def close(self) -> None:
        """Nothing is open."""


class FileTokens:
    """Tokens in a file of the same form, which is read again when it changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tokens: dict[str, str] = {}
        self._read_at: tuple[int, int, int] | None = None

    async def token_of(self, shop: str) -> str:
        """The token of `shop`. Raises PlatformError without one, or without a good file."""
        self._read()
        return _known(self._tokens, shop)

    def _read(self) -> None:
        try:
            found = self._path.stat()
            version = (found.st_mtime_ns, found.st_size, found.st_ino)
            if version != self._read_at:
                self._tokens = _parse(self._path.read_bytes())
                self._read_at = version
        except (OSError, ValueError):
            # Not the tokens of before either: they may have been withdrawn.
            logger.error("the access tokens in %s cannot be read", self._path)
            raise PlatformError("the access tokens of shops cannot be read") from None

    def shops(self) -> list[str]:
        """Those in the file; none when it cannot be read."""
        try:
            self._read()
        except PlatformError:
            return []
        return sorted(self._tokens)

    def forget(self, shop: str) -> None:
        """Read the file again at the next look-up, changed or not."""
        self._read_at = None

    async def close(self) -> None:
        """Nothing is open."""


class _TokenAnswer(Struct):
    access_token: _Token


class HttpTokens:
    """Tokens of a service: GET `url`, {shop} replaced; remembered for 5 minutes.

    `headers` are made for each request. `clock` is in seconds.
    """

    def __init__(
        self,
        url: str,
        headers: TokenHeaders,
        *,
        http: Http | None = None,
        clock: Callable[[], float] = time.monotonic,
        shops_max: int = CACHED_SHOPS_MAX,
    ) -> None:
        self._url = url
        self._headers = headers
        self._http = http or Http("the service of access tokens")
        self._clock = clock
        self._shops_max = shops_max
        self._cache: OrderedDict[str, tuple[float, str]] = OrderedDict()

    async def token_of(self, shop: str) -> str:
        """The token of `shop`. Raises PlatformError without one, or without an answer."""
        expires_at, token = self._cache.get(shop, (0.0, ""))
        if token and self._clock() < expires_at:
            return token
        token = await self._http.send(
            "GET",
            self._url.replace("{shop}", quote(shop, safe="")),
            headers=self._headers(shop),
            read=self._read,
        )
        self._cache[shop] = (self._clock() + CACHE_SECONDS, token)
        self._cache.move_to_end(shop)
        if len(self._cache) > self._shops_max:
            self._cache.popitem(last=False)
        return token

    def shops(self) -> list[str]:
        """None: the service is asked for one shop only."""
        return []

    def forget(self, shop: str) -> None:
        """Ask the service again at the next look-up."""
        self._cache.pop(shop, None)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()

    def _read(self, answer: PlatformResponse) -> str:
        if answer.status == 404:
            raise _unknown()
        if answer.status != 200:
            refusal = self._http.refusal(answer)
            if isinstance(refusal, CheckoutRefused):
                # Not by a platform, and nothing that the client could mend.
                refusal = PlatformError(f"{self._http.name} refuses: HTTP {answer.status}")
            raise refusal
        return self._http.decode(answer.body, _TokenAnswer).access_token


def _parse(text: bytes) -> dict[str, str]:
    found = {}
    for number, (shop, token) in enumerate(decode(text, dict[str, _Token]).items(), 1):
        try:
            found[shop_domain(shop)] = token
        except ValueError as error:
            # Not its name, which may be a token that stands in the wrong place.
            logger.warning("access token %d is not under the domain of a shop: %s", number, error)
    return found


def _known(tokens: dict[str, str], shop: str) -> str:
    token = tokens.get(shop)
    if token is None:
        raise _unknown()
    return token


def _unknown() -> PlatformError:
    return PlatformError("no access token is known for this shop")
