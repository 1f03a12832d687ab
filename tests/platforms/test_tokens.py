"""Where access tokens come from, and that nobody is shown one."""

import json
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from billing_stream.errors import PlatformError, SettingsError
from billing_stream.platforms.tokens import EnvironmentTokens, FileTokens, HttpTokens, TokenProvider
from tests.platforms.conftest import quick
from tests.platforms.fake import FakePlatform, Reply

ONE, TWO = "one.myshopify.com", "two.myshopify.com"
MALFORMED = [
    "",
    "shpat_x",
    "[]",
    "null",
    '{"one.myshopify.com": 5}',
    '{"one.myshopify.com": ""}',
    '{"one.myshopify.com": "shpat_x\\n"}',
    '{"one.myshopify.com": "shpat x"}',
    '{"one.myshopify.com": {"token": "shpat_x"}}',
    '{"one.myshopify.com": "shpat_x"',
    '{"a":' * 5000,
]


async def error_text(tokens: TokenProvider, shop: str = ONE) -> str:
    with pytest.raises(PlatformError) as raised:
        await tokens.token_of(shop)
    assert "shpat_x" not in str(raised.value)
    return str(raised.value)


async def test_the_environment_has_a_token_per_shop() -> None:
    tokens = EnvironmentTokens(json.dumps({ONE: "shpat_1", " Two.MyShopify.com ": "shpat_2"}))
    tokens.forget(ONE)
    await tokens.close()

    assert await tokens.token_of(ONE) == "shpat_1"
    assert await tokens.token_of(TWO) == "shpat_2"
    assert await error_text(tokens, "three.example") == "no access token is known for this shop"


async def test_token_is_found_by_any_form_of_the_shops_name(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tokens = EnvironmentTokens(json.dumps({f"https://{ONE}/": "shpat_1", "shpat x": "shpat_2"}))

    assert await tokens.token_of(ONE) == "shpat_1"
    assert tokens.shops() == [ONE]
    (warning,) = caplog.messages
    assert warning.startswith("access token 2 is not under the domain of a shop: its parts are")
    assert "shpat" not in warning


@pytest.mark.parametrize("text", MALFORMED, ids=lambda text: text[:40])
def test_a_malformed_variable_is_named_and_not_shown(text: str) -> None:
    with pytest.raises(SettingsError, match="SHOPIFY_ACCESS_TOKENS is not") as raised:
        EnvironmentTokens(text)

    assert "shpat_x" not in repr(raised.value)
    assert raised.value.__suppress_context__


async def test_a_file_is_read_again_only_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tokens.json"
    path.write_text(json.dumps({ONE: "shpat_1"}))
    reads = []
    real = Path.read_bytes

    def counted(self: Path) -> bytes:
        reads.append(self)
        return real(self)

    monkeypatch.setattr(Path, "read_bytes", counted)
    tokens = FileTokens(path)

    assert [await tokens.token_of(ONE) for _ in range(3)] == ["shpat_1"] * 3
    assert len(reads) == 1
    # Of the same size: only its time tells that it is another one.
    path.write_text(json.dumps({ONE: "shpat_2"}))
    os.utime(path, ns=(1, 1))
    assert await tokens.token_of(ONE) == "shpat_2"
    # Replaced as Kubernetes replaces files, with the same time.
    path.write_text(json.dumps({ONE: "shpat_33"}))
    os.utime(path, ns=(1, 1))
    assert await tokens.token_of(ONE) == "shpat_33"
    tokens.forget(ONE)
    assert await tokens.token_of(ONE) == "shpat_33"
    assert len(reads) == 4
    assert await error_text(tokens, TWO) == "no access token is known for this shop"
    await tokens.close()


@pytest.mark.logs_errors
@pytest.mark.parametrize("text", [None, *MALFORMED], ids=lambda text: str(text)[:40])
async def test_a_file_that_cannot_be_read_gives_no_token_until_it_can(
    tmp_path: Path, text: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "tokens.json"
    path.write_text(json.dumps({ONE: "shpat_1"}))
    tokens = FileTokens(path)
    await tokens.token_of(ONE)
    path.unlink()
    if text is not None:
        path.write_text(text)

    for _ in range(2):
        assert await error_text(tokens) == "the access tokens of shops cannot be read"
    errors = [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR]
    assert errors == [f"the access tokens in {path} cannot be read"] * 2
    assert "shpat_x" not in caplog.text

    path.write_text(json.dumps({ONE: "shpat_2"}))
    assert await tokens.token_of(ONE) == "shpat_2"


class Clock:
    """Moved by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture
async def service(fake: FakePlatform, clock: Clock) -> AsyncIterator[HttpTokens]:
    number = iter(range(1, 100))
    made = HttpTokens(
        f"{fake.url}/shops/{{shop}}/token?v=1",
        lambda shop: {"Authorization": f"Bearer {next(number)} {shop}"},
        http=quick("the token service"),
        clock=clock,
        shops_max=2,
    )
    yield made
    await made.close()


def token(text: str) -> Reply:
    return Reply(body={"access_token": text, "scope": "write"})


async def test_a_service_is_asked_with_a_fresh_token_for_the_shop(
    service: HttpTokens, fake: FakePlatform
) -> None:
    fake.replies(token("shpat_1"), token("shpat_2"))

    assert await service.token_of(ONE) == "shpat_1"
    assert await service.token_of("a/../b?c=d&e#f") == "shpat_2"
    assert [(one.method, one.path) for one in fake.asked] == [
        ("GET", f"/shops/{ONE}/token?v=1"),
        ("GET", "/shops/a%2F..%2Fb%3Fc%3Dd%26e%23f/token?v=1"),
    ]
    used = [one.headers["Authorization"] for one in fake.asked]
    assert used == [f"Bearer 1 {ONE}", "Bearer 2 a/../b?c=d&e#f"]


async def test_a_token_is_remembered_for_five_minutes(
    service: HttpTokens, fake: FakePlatform, clock: Clock
) -> None:
    fake.replies(token("shpat_1"), token("shpat_2"))

    assert await service.token_of(ONE) == "shpat_1"
    clock.now = 299.9
    assert await service.token_of(ONE) == "shpat_1"
    clock.now = 300.0
    assert await service.token_of(ONE) == "shpat_2"


async def test_a_forgotten_token_is_asked_for_again(
    service: HttpTokens, fake: FakePlatform
) -> None:
    fake.replies(token("shpat_1"), token("shpat_2"))
    await service.token_of(ONE)
    service.forget(ONE)
    service.forget("never.seen")

    assert await service.token_of(ONE) == "shpat_2"


async def test_no_more_shops_are_remembered_than_the_bound(
    service: HttpTokens, fake: FakePlatform
) -> None:
    fake.replies(token("shpat_1"))
    for shop in ("a", "b", "c"):
        await service.token_of(shop)
    assert len(fake.asked) == 3
    for shop in ("b", "c"):
        await service.token_of(shop)
    assert len(fake.asked) == 3
    await service.token_of("a")
    assert len(fake.asked) == 4


async def test_a_shop_that_the_service_does_not_know_has_no_token(
    service: HttpTokens, fake: FakePlatform
) -> None:
    fake.replies(Reply(status=404, body=b"shpat_x"))

    assert await error_text(service) == "no access token is known for this shop"
    assert len(fake.asked) == 1


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (Reply(status=401, body=b"shpat_x"), "the token service refuses our credentials"),
        (Reply(status=400, body=b"shpat_x"), "the token service refuses: HTTP 400"),
        (Reply(status=502), "the token service has a fault of its own (HTTP 502)"),
        (Reply(body=b'"shpat_x'), "the token service gave an answer that is not understood"),
        (token(""), "the token service gave an answer that is not understood"),
        (token("shpat_x\n"), "the token service gave an answer that is not understood"),
        (Reply(status=302), "the token service gave an answer that is not understood"),
    ],
)
async def test_a_service_that_fails_gives_no_token_and_is_asked_next_time(
    service: HttpTokens, fake: FakePlatform, reply: Reply, text: str
) -> None:
    fake.replies(reply)
    assert await error_text(service) == text

    fake.replies(token("shpat_1"))
    assert await service.token_of(ONE) == "shpat_1"
