"""Who may ask, and what everyone else is told."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import jwt
import pytest

from billing_stream.web.auth import (
    authenticate,
    authenticate_operator,
)
from billing_stream.web.envelope import ApiError, WebCode
from tests.support.nodes import Cluster, get
from tests.support.tokens import (
    client_headers,
    client_token,
    operator_token,
    segment,
    unsigned_token,
)
from tests.support.worker import CLIENT_SECRET, INTERNAL_SECRET
from tests.web.conftest import M1, M2

SHOP = "one.example"


def refusal(headers: dict[str, str]) -> WebCode | Any:
    with pytest.raises(ApiError) as refused:
        authenticate(headers, CLIENT_SECRET)
    assert "Bearer" not in refused.value.message
    return refused.value.error_code


def with_token(token: str) -> dict[str, str]:
    return client_headers(SHOP, token=token)


def signed(claims: dict[str, Any], algorithm: str = "HS256") -> str:
    return jwt.encode(claims, CLIENT_SECRET * 2, algorithm=algorithm)


# Not "in a while": this is made when tests are collected, which may be long before they run.
GOOD = {"sub": SHOP, "scope": "bff:api:access", "exp": 4_102_444_800}  # 2100


def test_a_good_token_speaks_for_its_shop() -> None:
    client = authenticate(client_headers("One.Example", X_Shop_Platform="Shopify"), CLIENT_SECRET)

    assert client.shop == "shopify:one.example"


@pytest.mark.parametrize(
    "scope",
    ["bff:api:access", "openid bff:api:access x", ["bff:api:access"], ["a", "bff:api:access"]],
)
def test_the_scope_is_text_or_a_list(scope: Any) -> None:
    headers = with_token(client_token(SHOP, scope=scope))

    assert authenticate(headers, CLIENT_SECRET).domain == SHOP


@pytest.mark.parametrize(
    "scope",
    [
        None,
        "",
        "bff:api",
        "bff:api:access2",
        "xbff:api:access",
        [],
        [["bff:api:access"]],
        {"bff:api:access": 1},
        7,
    ],
)
def test_another_scope_is_forbidden(scope: Any) -> None:
    assert refusal(with_token(client_token(SHOP, scope=scope))) is WebCode.FORBIDDEN


def test_a_token_for_another_shop_is_forbidden() -> None:
    headers = client_headers(SHOP, token=client_token("two.example"))

    assert refusal(headers) is WebCode.FORBIDDEN


def test_a_token_that_names_a_platform_is_for_no_other() -> None:
    for platform, good in (("shopify", True), ("Shopify", True), ("stripe", False)):
        headers = client_headers(SHOP, token=client_token(SHOP, platform=platform))
        if good:
            assert authenticate(headers, CLIENT_SECRET).platform == "shopify"
        else:
            with pytest.raises(ApiError) as refused:
                authenticate(headers, CLIENT_SECRET)
            assert refused.value.error_code is WebCode.FORBIDDEN


@pytest.mark.parametrize(
    ("seconds", "good"), [(3_590, True), (3_620, True), (3_640, False), (10**9, False)]
)
def test_a_client_token_may_have_a_longest_life(seconds: int, good: bool) -> None:
    headers = with_token(client_token(SHOP, exp=int(time.time()) + seconds))
    assert authenticate(headers, CLIENT_SECRET)
    if good:
        assert authenticate(headers, CLIENT_SECRET, lifetime=timedelta(hours=1))
        return
    with pytest.raises(ApiError, match="must expire within 1:00:00") as refused:
        authenticate(headers, CLIENT_SECRET, lifetime=timedelta(hours=1))
    assert refused.value.error_code is WebCode.UNAUTHORIZED


def test_the_clock_of_the_client_may_be_off_by_30_seconds() -> None:
    fresh_enough = client_token(SHOP, exp=int(time.time()) - 20)
    early = client_token(SHOP, iat=int(time.time()) + 20, nbf=int(time.time()) + 20)
    too_old = client_token(SHOP, exp=int(time.time()) - 40)

    assert authenticate(with_token(fresh_enough), CLIENT_SECRET)
    assert authenticate(with_token(early), CLIENT_SECRET)
    assert refusal(with_token(too_old)) is WebCode.UNAUTHORIZED


def good_parts() -> list[str]:
    return client_token(SHOP).split(".")


BAD_TOKENS: dict[str, Callable[[], str]] = {
    "empty": lambda: " ",
    "no token at all": lambda: "x",
    "dots": lambda: "..",
    "not base64": lambda: "a.b.c",
    "another secret": lambda: client_token(SHOP, secret="x" * 40),
    "the internal secret": lambda: client_token(SHOP, secret=INTERNAL_SECRET),
    "no secret": lambda: client_token(SHOP, secret="x" * 32).rsplit(".", 1)[0] + ".",
    "algorithm none": lambda: unsigned_token(SHOP),
    "algorithm None in other case": lambda: f"{segment({'alg': 'nOnE'})}.{segment(GOOD)}.",
    "algorithm HS512": lambda: jwt.encode(GOOD, CLIENT_SECRET * 2, algorithm="HS512"),
    "no algorithm": lambda: f"{segment({'typ': 'JWT'})}.{good_parts()[1]}.{good_parts()[2]}",
    "an algorithm that is no text": lambda: f"{segment({'alg': ['HS256']})}.{good_parts()[1]}.x",
    "changed claims": lambda: (
        f"{good_parts()[0]}.{segment({**GOOD, 'sub': 'x'})}.{good_parts()[2]}"
    ),
    "no expiry": lambda: client_token(SHOP, exp=None),
    "no subject": lambda: client_token(SHOP, sub=None),
    "a subject that is no text": lambda: client_token(SHOP, sub=5),
    "expiry that is no number": lambda: client_token(SHOP, exp="soon"),
    "expiry without end": lambda: client_token(SHOP, exp=float("inf")),
    "expiry that is none": lambda: client_token(SHOP, exp=float("nan")),
    "expiry a list": lambda: client_token(SHOP, exp=[1]),
    "not yet": lambda: client_token(SHOP, nbf=int(time.time()) + 100),
    "deep header": lambda: f"{segment('[' * 3000)}.{good_parts()[1]}.{good_parts()[2]}",
    "deep objects in the header": lambda: segment('{"alg":' * 900) + ".x.y",
    "critical extension": lambda: jwt.encode(
        GOOD, CLIENT_SECRET, algorithm="HS256", headers={"crit": ["x"], "x": 1}
    ),
    "detached payload": lambda: f"{segment({'alg': 'HS256', 'b64': False, 'crit': ['b64']})}..x",
}


@pytest.mark.parametrize("name", BAD_TOKENS)
def test_a_bad_token_is_unauthorized(name: str) -> None:
    assert refusal(with_token(BAD_TOKENS[name]())) is WebCode.UNAUTHORIZED


@pytest.mark.parametrize(
    "value", ["", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "Token x", "bearerx", "\x00"]
)
def test_anything_but_a_bearer_token_is_unauthorized(value: str) -> None:
    headers = {**client_headers(SHOP), "Authorization": value}

    assert refusal(headers) is WebCode.UNAUTHORIZED


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("Authorization", WebCode.UNAUTHORIZED),
        ("X-Shop-Platform", WebCode.BAD_REQUEST),
        ("X-Shop-Domain", WebCode.BAD_REQUEST),
    ],
)
def test_each_header_is_needed(header: str, code: WebCode) -> None:
    headers = client_headers(SHOP)
    del headers[header]

    assert refusal(headers) is code
    # Without a token nothing else is said.
    headers.pop("Authorization", None)
    assert refusal(headers) is WebCode.UNAUTHORIZED


@pytest.mark.parametrize("platform", ["", " ", "a:b", "shopify:x", "sh opify", "é", "x" * 65])
def test_a_platform_that_would_blur_the_shop_is_refused(platform: str) -> None:
    assert refusal(client_headers(SHOP, X_Shop_Platform=platform)) is WebCode.BAD_REQUEST


@pytest.mark.parametrize("domain", ["", "a b", "x@a.example", "x" * 256, "a\tb", "\udce9.example"])
def test_an_odd_domain_is_refused(domain: str) -> None:
    headers = client_headers(domain, token=client_token("x"))

    assert refusal(headers) is WebCode.BAD_REQUEST


@pytest.mark.parametrize("one", ["müller.example", "https://XN--mller-kva.example/"])
@pytest.mark.parametrize("other", ["MÜLLER.example.", " xn--mller-kva.example:443 "])
def test_token_and_header_name_a_shop_in_any_form(one: str, other: str) -> None:
    headers = client_headers(one, token=client_token(other), X_Shop_Platform=" Shopify ")

    client = authenticate(headers, CLIENT_SECRET)

    assert client.shop == "shopify:xn--mller-kva.example"


OLD, NEW, OTHER = ("old-" * 10, "new-" * 10, "other-" * 10)


@pytest.mark.parametrize("order", [(OLD, NEW), (NEW, OLD)])
def test_while_a_secret_is_replaced_either_signs(order: tuple[str, str]) -> None:
    for secret in (OLD, NEW):
        headers = with_token(client_token(SHOP, secret=secret))
        assert authenticate(headers, *order).domain == SHOP
        operator = {"Authorization": f"Bearer {operator_token('olga', secret=secret)}"}
        assert authenticate_operator(operator, *order) == "olga"


def test_third_secret_signs_nothing_and_expired_tokens_stay_invalid() -> None:
    forged = with_token(client_token(SHOP, secret=OTHER))
    expired = with_token(client_token(SHOP, secret=OLD, exp=int(time.time()) - 60))

    for headers, words in ((forged, "not valid"), (expired, "has expired")):
        with pytest.raises(ApiError, match=words) as refused:
            authenticate(headers, NEW, OLD)
        assert refused.value.error_code is WebCode.UNAUTHORIZED


@pytest.mark.parametrize("path", ["", "/trials", "/purchases", f"/purchases/{M1}"])
async def test_every_path_asks_who_it_is(two: Cluster, path: str) -> None:
    await two.create(M1, SHOP)

    for node in two.nodes:
        nobody = await node.get("/api/billing" + path)
        forged = await node.get("/api/billing" + path, **client_headers(SHOP, token="x.y.z"))
        other = await node.get(
            "/api/billing" + path, **client_headers(SHOP, token=client_token("two.example"))
        )

        assert (nobody.status, nobody.code) == (401, "UNAUTHORIZED")
        assert nobody.headers["WWW-Authenticate"] == "Bearer"
        assert (forged.status, forged.code) == (401, "UNAUTHORIZED")
        assert (other.status, other.code) == (403, "FORBIDDEN")


@pytest.mark.parametrize("path", ["/trials", "/purchases"])
async def test_nobody_does_anything_without_a_good_token_for_the_shop(
    two: Cluster, path: str
) -> None:
    await two.create(M1, SHOP)
    await two.create(M2, "two.example")
    body = {"pack": "small", "platform": "shopify", "return_url": "https://a.example"}
    sent = None if path == "/trials" else body
    expired = client_token(SHOP, exp=int(time.time()) - 60)
    cases: list[tuple[int, dict[str, str]]] = [
        (401, {}),
        (401, client_headers(SHOP, token="x.y.z")),
        (401, client_headers(SHOP, token=unsigned_token(SHOP))),
        (401, client_headers(SHOP, token=client_token(SHOP, secret=INTERNAL_SECRET))),
        (401, client_headers(SHOP, token=expired)),
        (401, client_headers(SHOP, token=client_token(SHOP, exp=None))),
        (400, {**client_headers(SHOP), "X-Shop-Platform": ""}),
        (422, {**client_headers(SHOP), "X-Shop-Platform": "ebay"}),
        (403, client_headers(SHOP, token=client_token(SHOP, scope="other"))),
        (403, client_headers(SHOP, token=client_token("two.example"))),
    ]

    for node in two.nodes:
        for status, headers in cases:
            url = "/api/billing" + path
            reply = await get(node.url, url, headers, method="POST", json=sent)
            assert reply.status == status, headers
    for shop in (SHOP, "two.example"):
        billing = (await two.nodes[0].get("/api/billing", shop)).data
        assert billing["trial"]["available"] is True
        assert billing["recent_purchases"] == []
    assert two.platform.asked == []


async def test_who_it_is_comes_before_what_is_wrong(two: Cluster) -> None:
    reply = await two.nodes[0].get("/api/billing/purchases?page=-1")

    assert reply.code == "UNAUTHORIZED"
