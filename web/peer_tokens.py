"""Calls between workers: signed for receiver, method, path, query and body; accepted once.

Workers of 0.5.x show each other a token that is good for any of these for a minute. With
`old=True` such tokens are accepted too, and calls are signed so that these workers accept them.
"""

import secrets as random
import time
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any

from msgspec import Struct
from yarl import URL

from billing_stream.web.auth import (
    LEEWAY_SECONDS,
    NOT_VALID,
    OPERATOR_NAME,
    bearer,
    verified_claims,
)
from billing_stream.web.envelope import ApiError, WebCode
from billing_stream.web.refusals import Credential

AUDIENCE = "billing-stream/peer"
OLD_AUDIENCE = "billing-stream/internal"
CALL_SECONDS = 5
# A token that is valid for longer is none of a worker's.
CALL_SECONDS_MAX = 30
# About 30 MB. Above 5,000 calls a second older ones are forgotten early, and refused since then.
REMEMBERED_MAX = 200_000
ID_LENGTH_MAX = 64


class Call(Struct, frozen=True):
    """A request of one worker to another; `target` is path and query as they are sent.

    `address` is scheme, host and port of the receiver, as it has given them to the group.
    `operator` is who asks for it, where the caller has verified that.
    """

    address: str
    method: str
    target: str
    body: bytes = b""
    operator: str | None = None

    @property
    def claims(self) -> dict[str, Any]:
        """What the signature is for; `htm` and `htu` as in RFC 9449, but with the query."""
        return {
            "htm": self.method,
            "htu": str(URL(self.address).origin()) + self.target,
            "body": sha256(self.body).hexdigest(),
            "operator": self.operator,
        }


def sign(call: Call, secret: str, *, old: bool) -> dict[str, str]:
    """The header that goes with a call."""
    audience = [AUDIENCE, OLD_AUDIENCE] if old else AUDIENCE
    claims = {**call.claims, "aud": audience, "jti": random.token_urlsafe(16)}
    return bearer(secret, claims, CALL_SECONDS)


class PeerCalls:
    """Verifies the calls that this worker gets. One per worker: it remembers them.

    It remembers at most `most`, and refuses calls as old as one that it has forgotten.
    `clock` is in seconds since 1970.
    """

    def __init__(
        self,
        secrets: Sequence[str],
        *,
        old: bool,
        clock: Callable[[], float] = time.time,
        most: int = REMEMBERED_MAX,
    ) -> None:
        self._secrets = secrets
        self._old = old
        self._clock = clock
        self._most = most
        # The expiry of each by its id, in the order in which they came.
        self._accepted: dict[str, int] = {}
        self._forgotten = 0

    def __len__(self) -> int:
        return len(self._accepted)

    def verify(self, headers: Mapping[str, str], call: Call) -> Call:
        """The call as its token says it is: with its operator, if it has one.

        Raises ApiError (UNAUTHORIZED): with the credential WORKER_CALL when the token is good and
        not for this call, or was used before.
        """
        audience = [AUDIENCE, OLD_AUDIENCE] if self._old else AUDIENCE
        claims = verified_claims(headers, self._secrets, ["exp", "iat", "aud"], audience)
        seconds = int(claims["exp"]) - int(claims["iat"])
        if not 0 < seconds <= CALL_SECONDS_MAX:
            raise ApiError(WebCode.UNAUTHORIZED, NOT_VALID)
        # One that is for this as well is not accepted for less than it says.
        if AUDIENCE not in _listed(claims["aud"]):
            return call
        operator = claims.get("operator")
        if operator is not None and not OPERATOR_NAME.fullmatch(str(operator)):
            raise ApiError(WebCode.UNAUTHORIZED, NOT_VALID)
        signed = Call(call.address, call.method, call.target, call.body, operator)
        if {name: claims.get(name) for name in signed.claims} != signed.claims:
            raise _refused("the token is for another call")
        self._accept_once(claims.get("jti"), int(claims["exp"]))
        return signed

    def _accept_once(self, call_id: Any, expires_at: int) -> None:
        if not isinstance(call_id, str) or not 0 < len(call_id) <= ID_LENGTH_MAX:
            raise ApiError(WebCode.UNAUTHORIZED, NOT_VALID)
        self._forget(self._clock() - LEEWAY_SECONDS)
        if call_id in self._accepted or expires_at <= self._forgotten:
            raise _refused("the token was used before")
        self._accepted[call_id] = expires_at

    def _forget(self, expired: float) -> None:
        while self._accepted:
            call_id, expires_at = next(iter(self._accepted.items()))
            if expires_at > expired and len(self._accepted) < self._most:
                return
            del self._accepted[call_id]
            # Also when the clock is set back later.
            self._forgotten = max(self._forgotten, expires_at)


def _refused(message: str) -> ApiError:
    return ApiError(WebCode.UNAUTHORIZED, message, credential=Credential.WORKER_CALL)


def _listed(audience: Any) -> list[Any]:
    return audience if isinstance(audience, list) else [audience]
