"""Tokens that an attacker with the source would make: refused everywhere, and never a fault."""

import base64
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from billing_stream.web.auth import OPERATOR_AUDIENCE, OPERATOR_SCOPE
from billing_stream.web.ops.cookies import CookiePolicy
from billing_stream.web.ops.session import AUDIENCE
from billing_stream.web.peer_tokens import OLD_AUDIENCE
from tests.support.nodes import Cluster, Node, get
from tests.support.tokens import SCOPE, segment
from tests.support.worker import CLIENT_SECRET, INTERNAL_SECRET
from tests.web.conftest import M1

SHOP = "one.example"
# By whom a token would be: its secret, and the claims of a good one.
ROLES: dict[str, tuple[str, dict[str, Any]]] = {
    "client": (CLIENT_SECRET, {"sub": SHOP, "scope": SCOPE}),
    "operator": (
        INTERNAL_SECRET,
        {"sub": "olga", "scope": OPERATOR_SCOPE, "aud": OPERATOR_AUDIENCE},
    ),
    "worker": (INTERNAL_SECRET, {"aud": OLD_AUDIENCE}),
    "cookie": (INTERNAL_SECRET, {"sub": "olga", "aud": AUDIENCE, "jti": "x"}),
}


def claims_of(role: str, **change: Any) -> dict[str, Any]:
    now = int(time.time())
    ends = {"iat": now, "exp": now + (30 if role == "worker" else 300)}
    found = {**ROLES[role][1], **ends, **change}
    return {name: value for name, value in found.items() if value is not ...}


def made(role: str, header: dict[str, Any] | None = None, **change: Any) -> str:
    """A token signed with the right secret, whatever is in it."""
    secret = ROLES[role][0]
    first = segment({"alg": "HS256", "typ": "JWT", **(header or {})})
    return signed(first, segment(claims_of(role, **change)), secret)


def signed(first: str, second: str, secret: str) -> str:
    algorithm = jwt.get_algorithm_by_name("HS256")
    key = algorithm.prepare_key(secret)
    signature = algorithm.sign(f"{first}.{second}".encode(), key)
    return f"{first}.{second}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def by_raw_claims(role: str, text: str) -> str:
    """As `made`, with claims that are this JSON text."""
    return signed(segment({"alg": "HS256"}), segment(text), ROLES[role][0])


def twice(role: str, name: str, value: Any) -> str:
    """The claims, and one of them once more; the last one would count."""
    good = json.dumps(claims_of(role))
    return by_raw_claims(role, f"{good[:-1]}, {json.dumps(name)}: {json.dumps(value)}}}")


def rs256(role: str) -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return jwt.encode(claims_of(role), private, algorithm="RS256")


def other_secret(role: str) -> str:
    secret = CLIENT_SECRET if ROLES[role][0] == INTERNAL_SECRET else INTERNAL_SECRET
    return jwt.encode(claims_of(role), secret, algorithm="HS256")


def unsigned(role: str, algorithm: str) -> str:
    return f"{segment({'alg': algorithm})}.{segment(claims_of(role))}."


FORGED: dict[str, Callable[[str], str]] = {
    **{
        f"algorithm {name}": partial(unsigned, algorithm=name)
        for name in ("none", "None", "NONE", "nOnE", "")
    },
    "HS384": lambda role: jwt.encode(claims_of(role), ROLES[role][0] * 2, algorithm="HS384"),
    "HS512": lambda role: jwt.encode(claims_of(role), ROLES[role][0] * 2, algorithm="HS512"),
    "RS256": rs256,
    "no algorithm": lambda role: signed(segment({}), segment(claims_of(role)), ROLES[role][0]),
    "algorithm in lower case": lambda role: made(role, {"alg": "hs256"}),
    "a critical extension": lambda role: made(role, {"crit": ["x"], "x": 1}),
    "a detached payload": lambda role: made(role, {"b64": False, "crit": ["b64"]}),
    "the secret of others": other_secret,
    "exp missing": lambda role: made(role, exp=...),
    "exp null": lambda role: made(role, exp=None),
    "exp -1": lambda role: made(role, exp=-1),
    "exp true": lambda role: made(role, exp=True),
    "exp a text": lambda role: made(role, exp="never"),
    "exp an object": lambda role: made(role, exp={"$gt": 0}),
    "exp NaN": lambda role: by_raw_claims(role, json.dumps(claims_of(role, exp=float("nan")))),
    "exp 1e400": lambda role: by_raw_claims(
        role, json.dumps(claims_of(role, exp=7)).replace('"exp": 7', '"exp": 1e400')
    ),
    "nbf ahead": lambda role: made(role, nbf=int(time.time()) + 600),
    "iat ahead": lambda role: made(role, iat=int(time.time()) + 600),
    "claims a list": lambda role: by_raw_claims(role, "[]"),
    "claims a number": lambda role: by_raw_claims(role, "7"),
    "claims null": lambda role: by_raw_claims(role, "null"),
    "claims not JSON": lambda role: by_raw_claims(role, "{"),
    "objects 800 deep": lambda role: by_raw_claims(role, '{"a":' * 800 + "1" + "}" * 800),
    "claims 2,000 lists deep": lambda role: by_raw_claims(role, "[" * 2000 + "]" * 2000),
    "claims that are no text": lambda role: by_raw_claims(role, "\U0001f600\x00"),
    "expired, claimed twice": lambda role: twice(role, "exp", 1),
}
OF_NAMED = {
    "sub missing": lambda role: made(role, sub=...),
    "sub null": lambda role: made(role, sub=None),
    "sub a list": lambda role: made(role, sub=[SHOP]),
    "sub an object": lambda role: made(role, sub={"x": SHOP}),
    "sub a number": lambda role: made(role, sub=1),
    "sub empty": lambda role: made(role, sub=""),
    "sub of another, claimed twice": lambda role: twice(role, "sub", "two.example\x00"),
}
OF_SCOPED = {
    "scope missing": lambda role: made(role, scope=...),
    "scope nested": lambda role: made(role, scope=[[SCOPE, OPERATOR_SCOPE]]),
    "scope an object": lambda role: made(role, scope={SCOPE: True, OPERATOR_SCOPE: True}),
    "scope with more around it": lambda role: made(role, scope=f"x{SCOPE}x x{OPERATOR_SCOPE}x"),
    "scope in upper case": lambda role: made(role, scope=f"{SCOPE} {OPERATOR_SCOPE}".upper()),
}
OF_AUDIENCE = {
    "audience missing": lambda role: made(role, aud=...),
    "audience of another": lambda role: made(role, aud="billing-stream/other"),
    "audience an object": lambda role: made(role, aud={ROLES[role][1]["aud"]: 1}),
    "audience in part": lambda role: made(role, aud=ROLES[role][1]["aud"][:-1]),
}
CASES = [
    (role, name, forged)
    for role in ROLES
    for kinds, roles in (
        (FORGED, ROLES),
        (OF_NAMED, ("client", "operator")),
        (OF_SCOPED, ("client", "operator")),
        (OF_AUDIENCE, ("operator", "worker", "cookie")),
    )
    if role in roles
    for name, forged in kinds.items()
]


async def status_of(node: Node, role: str, token: str) -> int:
    """The status that the page of a role answers with."""
    bearer = {"Authorization": f"Bearer {token}"}
    if role == "client":
        shop = {"X-Shop-Platform": "shopify", "X-Shop-Domain": SHOP}
        return (await get(node.url, "/api/billing", {**bearer, **shop})).status
    if role == "operator":
        return (await get(node.url, "/ops/workers", bearer)).status
    if role == "worker":
        return (await get(node.url, "/internal/ops/figures", bearer)).status
    cookie = {"Cookie": f"{CookiePolicy(is_real=False).name}={token}"}
    return (await get(node.url, "/ops/workers", cookie)).status


async def test_a_good_token_of_each_role_is_accepted(two: Cluster) -> None:
    await two.create(M1, SHOP)

    for role in ROLES:
        assert await status_of(two.nodes[0], role, made(role)) == 200, role
        named = made(role, {"kid": "../../dev/null", "jku": "https://evil.example"})
        assert await status_of(two.nodes[0], role, named) == 200, "names of keys are not read"


async def test_a_forged_token_is_refused_for_what_it_is(two: Cluster) -> None:
    await two.create(M1, SHOP)

    for role, name, forged in CASES:
        status = await status_of(two.nodes[0], role, forged(role))

        assert status in (401, 403), f"{role}, {name}: {status}"


async def test_a_token_of_one_role_is_not_one_of_another(two: Cluster) -> None:
    await two.create(M1, SHOP)

    for role in ROLES:
        for other in set(ROLES) - {role}:
            status = await status_of(two.nodes[0], other, made(role))
            assert status in (401, 403), f"{role} as {other}: {status}"


@pytest.mark.parametrize("key", ["jwk", "x5c"])
async def test_a_key_within_a_token_is_not_used(two: Cluster, key: str) -> None:
    own = "k" * 40
    embedded = {"kty": "oct", "k": base64.urlsafe_b64encode(own.encode()).decode()}

    for role in ROLES:
        header = {"alg": "HS256", key: embedded if key == "jwk" else [own]}
        forged = signed(segment(header), segment(claims_of(role)), own)
        assert await status_of(two.nodes[0], role, forged) == 401
