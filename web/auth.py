"""Who asks: the tokens of clients and of operators; and what the service of tokens is shown.

Nothing here is ever logged, and no refusal repeats what it refused.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import jwt
from aiohttp import web
from msgspec import Struct

from billing_stream.domain.ids import shop_key
from billing_stream.domain.model import Platform
from billing_stream.domain.outcomes import ErrorCode
from billing_stream.domain.shop_names import platform_name, shop_domain
from billing_stream.records.examples import DOMAIN
from billing_stream.records.invalid_fields import Rule
from billing_stream.web.envelope import RATE_LIMITED, ApiError, WebCode, invalid
from billing_stream.web.operation import Access, Call
from billing_stream.web.refusals import Credential

if TYPE_CHECKING:
    from billing_stream.web.context import Context

ALGORITHMS = ["HS256"]
PLATFORM, SHOP = "X-Shop-Platform", "X-Shop-Domain"
LEEWAY_SECONDS = 30
SCOPE = "bff:api:access"
SHOP_TOKENS_AUDIENCE = "billing-stream/shop-tokens"
SHOP_TOKEN_SECONDS = 30
OPERATOR_AUDIENCE = "billing-stream/operator"
OPERATOR_SECONDS_MAX = 12 * 3600
OPERATOR_SCOPE = "billing:operate"

# Workers tell each other by these whether secrets or clocks differ.
NOT_VALID = "the token is not valid"
EXPIRED = "the token has expired"
NOT_YET_VALID = "the token is not valid yet"

_HEADER_RULES = MappingProxyType(
    {
        Rule.REQUIRED: "is missing",
        Rule.FORMAT: "must be the name of a platform or the host name of a shop",
    }
)
# It stands in the journal and in events.
OPERATOR_NAME = re.compile(r"[A-Za-z0-9._@+-]{1,64}")


class Client(Struct, frozen=True):
    """The shop for which a client asks, its names in their one form."""

    platform: str
    domain: str

    @property
    def shop(self) -> str:
        """The key of the shop, `platform:domain`."""
        return shop_key(self.platform, self.domain)


def authenticate(
    headers: Mapping[str, str], *secrets: str, lifetime: timedelta | None = None
) -> Client:
    """The shop that a client's token and headers speak for; one of `secrets` has signed it.

    `lifetime`: for how long a token may be valid from now on.

    Raises ApiError: UNAUTHORIZED when the token is missing, malformed, forged, expired or valid for
    too long; FORBIDDEN when it is good but not for this; BAD_REQUEST when another header is missing
    or malformed.
    """
    claims = verified_claims(headers, secrets, ["exp", "sub"])
    if lifetime is not None:
        _require_end(claims, lifetime.total_seconds(), "a client's token")
    if SCOPE not in _scopes(claims.get("scope")):
        raise ApiError(WebCode.FORBIDDEN, f"the token has no scope {SCOPE}")
    platform = _header(headers, PLATFORM, platform_name)
    domain = _header(headers, SHOP, shop_domain)
    if _named(str(claims.get("platform", platform)), platform_name) != platform:
        raise _another_shop(PLATFORM)
    if _named(str(claims["sub"]), shop_domain) != domain:
        raise _another_shop(SHOP)
    return Client(platform, domain)


def _another_shop(header: str) -> ApiError:
    why = f"`{header}` must be that of the shop that the token is for"
    return invalid(header, why, Rule.CONFLICT, WebCode.FORBIDDEN)


def shop_token_headers(secret: str, shop: str) -> dict[str, str]:
    """What the service of access tokens is shown: good for one shop there, and for nothing here."""
    claims = {"aud": SHOP_TOKENS_AUDIENCE, "shop": shop}
    return bearer(secret, claims, SHOP_TOKEN_SECONDS)


def bearer(secret: str, claims: Mapping[str, Any], seconds: int) -> dict[str, str]:
    """The header with a token of these claims that is valid for `seconds`."""
    now = int(time.time())
    token = jwt.encode({**claims, "iat": now, "exp": now + seconds}, secret, ALGORITHMS[0])
    return {"Authorization": f"Bearer {token}"}


def authenticate_operator(headers: Mapping[str, str], *secrets: str) -> str:
    """The operator that a token speaks for, signed with one of the secrets of the workers.

    Raises ApiError: UNAUTHORIZED when it is missing, malformed, forged or expired; FORBIDDEN
    when it is good but not for this.
    """
    claims = verified_claims(headers, secrets, ["exp", "aud", "sub"], OPERATOR_AUDIENCE)
    if OPERATOR_SCOPE not in _scopes(claims.get("scope")):
        raise ApiError(WebCode.FORBIDDEN, f"the token has no scope {OPERATOR_SCOPE}")
    operator = str(claims["sub"])
    if not OPERATOR_NAME.fullmatch(operator):
        raise ApiError(WebCode.UNAUTHORIZED, "the token names no operator")
    _require_end(claims, OPERATOR_SECONDS_MAX, "an operator's token")
    return operator


def _require_end(claims: Mapping[str, Any], seconds: float, whose: str) -> None:
    """It cannot be revoked, so it must end soon."""
    if int(claims["exp"]) - time.time() > seconds + LEEWAY_SECONDS:
        within = timedelta(seconds=seconds)
        raise ApiError(WebCode.UNAUTHORIZED, f"{whose} must expire within {within} (h:mm:ss)")


def verified_claims(
    headers: Mapping[str, str],
    secrets: Sequence[str],
    required: list[str],
    audience: str | list[str] | None = None,
) -> dict[str, Any]:
    """The claims of a bearer token that one of `secrets` has signed.

    Raises ApiError (UNAUTHORIZED) when it is missing, malformed, forged, expired, not valid yet,
    without one of the `required` claims, or for no `audience`.
    """
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise ApiError(WebCode.UNAUTHORIZED, "a bearer token is needed")
    decode = partial(
        jwt.decode,
        token.strip(),
        algorithms=ALGORITHMS,
        leeway=LEEWAY_SECONDS,
        audience=audience,
        options={"require": required, "verify_aud": audience is not None},
    )
    try:
        return _by_the_first(decode, secrets)
    except jwt.ExpiredSignatureError:
        raise ApiError(WebCode.UNAUTHORIZED, EXPIRED) from None
    except jwt.ImmatureSignatureError:
        raise ApiError(WebCode.UNAUTHORIZED, NOT_YET_VALID) from None
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
        # PyJWT lets some of the latter through, for tokens made to be odd.
        raise ApiError(WebCode.UNAUTHORIZED, NOT_VALID) from None


def _by_the_first(
    decode: Callable[[str], dict[str, Any]], secrets: Sequence[str]
) -> dict[str, Any]:
    """What `decode` makes of the token with the first secret that has signed it."""
    *others, last = secrets
    for secret in others:
        with suppress(jwt.InvalidSignatureError):
            return decode(secret)
    return decode(last)


def _scopes(claim: Any) -> list[str]:
    if isinstance(claim, str):
        return claim.split()
    return claim if isinstance(claim, list) else []


def _header(headers: Mapping[str, str], name: str, name_of: Callable[[str], str]) -> str:
    value = _named(headers.get(name, ""), name_of)
    if value is None:
        rule = Rule.FORMAT if headers.get(name) else Rule.REQUIRED
        why = f"the header `{name}` {_HEADER_RULES[rule]}"
        raise invalid(name, why, rule, WebCode.BAD_REQUEST)
    return value


def _named(text: str, name_of: Callable[[str], str]) -> str | None:
    try:
        return name_of(text)
    except ValueError:
        return None


async def _client_of(context: "Context", request: web.Request) -> Client:
    lifetime = context.client_token_lifetime
    client = authenticate(request.headers, *context.client_secrets, lifetime=lifetime)
    # By what the token says: the platform is only a header.
    request[RATE_LIMITED] = context.rate_limit.hit(client.domain)
    return client


# A client on behalf of a shop, which has a merchant.
CLIENT = Access(
    verify=_client_of,
    codes=(
        WebCode.UNAUTHORIZED,
        WebCode.FORBIDDEN,
        WebCode.BAD_REQUEST,
        WebCode.UNKNOWN_PLATFORM,
        ErrorCode.MERCHANT_NOT_FOUND,
        ErrorCode.TOO_MANY_REQUESTS,
    ),
    credential=Credential.CLIENT_TOKEN,
    scheme="clientToken",
    described={
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "HS256, signed with CLIENT_JWT_SECRET; `sub` is the domain of the shop, "
        f"`scope` has `{SCOPE}`, `exp` is needed. In development: "
        "`billing-stream dev token DOMAIN`.",
    },
    headers={
        PLATFORM: ("The platform of the shop, in any letter case", "shopify"),
        SHOP: ("The domain of the shop: that of the token", DOMAIN),
    },
)


async def _operator_of(context: "Context", request: web.Request) -> str:
    return authenticate_operator(request.headers, *context.internal_secrets)


# An operator with a token of its own; gives its name.
OPERATOR = Access(
    verify=_operator_of,
    codes=(WebCode.UNAUTHORIZED, WebCode.FORBIDDEN),
    credential=Credential.OPERATOR_TOKEN,
    scheme="operatorToken",
    described={
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "HS256, signed with INTERNAL_JWT_SECRET; `sub` is who asks, `aud` is "
        f"`{OPERATOR_AUDIENCE}`, `scope` has `{OPERATOR_SCOPE}`, `exp` is needed. In development: "
        "`billing-stream dev operator-token NAME`.",
    },
)


async def merchant_of(call: Call[Client]) -> str:
    """The merchant of the client. Raises ApiError when the shop has no merchant.

    Merchants of platforms that take no payments here are announced, too: only without a
    merchant may the platform be a mistake.
    """
    try:
        return await call.context.owners.merchant_of(call.who.shop, call.ids)
    except ApiError as error:
        is_usual = call.who.platform in [*Platform]
        if is_usual or error.error_code is not ErrorCode.MERCHANT_NOT_FOUND:
            raise
        usual = ", ".join(Platform)
        why = f"no merchant is known with this `{PLATFORM}`, which is usually one of {usual}"
        raise invalid(PLATFORM, why, Rule.CHOICE, WebCode.UNKNOWN_PLATFORM) from None
