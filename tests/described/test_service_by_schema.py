"""A real worker on a real Kafka, asked all that its own description allows, and more."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
import pytest_asyncio

from billing_stream.records.examples import MERCHANT_ID
from tests.described.validation import operations, wrong_with
from tests.support.nodes import get
from tests.support.shop import create_merchants, shop
from tests.support.tokens import client_headers, client_token, operator_headers, unsigned_token
from tests.support.worker import Worker, create_topics, environment, worker

M1 = "11111111-1111-4111-8111-111111111111"
DOMAIN = "one.example"
CONFIG = Path(__file__).with_name("schemathesis.toml")
SECONDS_MAX = 120

pytestmark = [pytest.mark.full, pytest.mark.timeout(240)]


@pytest_asyncio.fixture
async def service(kafka: str, prefix: str, folder: Path) -> AsyncIterator[Worker]:
    """A worker that knows the merchant of one shop, and all kinds of webhooks."""
    env = environment(
        kafka,
        prefix,
        BILLING_REQUESTS_PER_MINUTE="1000000",
        BILLING_OPEN_PURCHASES_MAX="100000",
        SHOPIFY_API_SECRET="shopify-secret-for-tests",
        STRIPE_WEBHOOK_SECRET="stripe-secret-for-tests",
        CUSTOM_GATEWAY_SECRET="custom-secret-for-tests-0123456789",
    )
    await create_topics(env)
    # The one in the examples of what operators ask, too.
    await create_merchants(kafka, prefix, {M1: DOMAIN, MERCHANT_ID: "example.myshopify.com"})
    async with worker(env, folder) as found, shop(DOMAIN, found):
        yield found


async def schemathesis(
    url: str, folder: Path, sent: Mapping[str, str], *options: str
) -> tuple[int, str]:
    """Exit code and report of schemathesis, asking with these headers."""
    headers = [f"-H{name}: {value}" for name, value in sent.items()]
    command = Path(sys.executable).with_name("schemathesis")
    process = await asyncio.create_subprocess_exec(
        str(command),
        f"--config-file={CONFIG}",
        "run",
        f"{url}/openapi.json",
        *headers,
        *options,
        cwd=folder,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(SECONDS_MAX):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, output.decode()


async def test_whatever_it_is_asked_it_answers_as_described(
    service: Worker, tmp_path: Path
) -> None:
    code, report = await schemathesis(service.url, tmp_path, client_headers(DOMAIN))

    print(report)
    assert code == 0, report
    # Every operation was asked, and the service lives.
    tested = len(list(operations()))
    assert f"Selected: {tested}/{tested}" in report
    assert f"Tested: {tested}" in report
    reply = await get(service.url, "/ready")
    assert reply.status == 200
    assert "a request to" not in service.tail()


async def test_whatever_an_operator_asks_is_answered_as_described(
    service: Worker, tmp_path: Path
) -> None:
    # Of these, none leads to another: there is no stateful phase.
    only = ("--include-path-regex=^/internal/", "--phases=examples,coverage,fuzzing")

    code, report = await schemathesis(service.url, tmp_path, operator_headers(), *only)

    print(report)
    assert code == 0, report
    assert "Tested: 7" in report
    assert "a request to" not in service.tail()


async def test_without_a_good_token_nothing_of_a_merchant_is_answered(service: Worker) -> None:
    good = client_headers(DOMAIN)
    tokens = [
        client_token(DOMAIN, secret="another-secret-of-32-characters-or-more"),
        client_token(DOMAIN, exp=1),
        client_token(DOMAIN, exp=None),
        client_token(DOMAIN)[:-4] + "AAAA",
        unsigned_token(DOMAIN),
        "not.a.token",
    ]
    asked = 0
    for path, method, _ in operations():
        if not path.startswith("/api/"):
            continue
        target = path.replace("{purchase_id}", M1)
        authorizations = [f"Bearer {token}" for token in tokens]
        for authorization in [None, "", "Bearer", "Basic dTpw", *authorizations]:
            headers = {**good, "Authorization": authorization}
            sent = {name: value for name, value in headers.items() if value is not None}
            reply = await get(service.url, target, sent, method=method.upper())
            assert (reply.status, reply.code) == (401, "UNAUTHORIZED"), (method, path)
            assert wrong_with(path, method, reply) == []
            asked += 1
    assert asked == 8 * 10
