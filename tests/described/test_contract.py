"""Every answer that an operation declares is given by a worker, and is as described.

Both come from the declarations: what is asked, and which answers there are.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from billing_stream.domain.commands import CreateMerchant, StartTrial, UninstallMerchant
from billing_stream.domain.model import Platform
from billing_stream.domain.outcomes import ErrorCode
from billing_stream.errors import CheckoutRefused
from billing_stream.platforms.base import PlatformEvent, PlatformEventKind
from billing_stream.records.examples import DOMAIN, MERCHANT_ID
from billing_stream.web import openapi
from billing_stream.web.auth import CLIENT, OPERATOR
from billing_stream.web.envelope import STATUS, Code, WebCode
from billing_stream.web.operation import Operation
from billing_stream.web.projection import HistoryPage, Projection
from tests.described.validation import wrong_with
from tests.support.nodes import Cluster, Node, Reply, cluster, get
from tests.support.platform import no_checkout
from tests.support.production import PRODUCTION
from tests.support.tokens import client_headers, operator_headers

OTHER = "22222222-2222-4222-8222-222222222222"
NOBODY = "nobody.example"
PURCHASES = "/api/billing/purchases"
TOLD = msgspec.json.encode(
    PlatformEvent(kind=PlatformEventKind.UPDATED, charge_id="c-1", status="active")
)


def named(value: Operation | Code | None) -> str:
    """What a case is called."""
    if isinstance(value, Operation):
        return openapi.described(value).id
    return "good" if value is None else str(value)


CASES: list[tuple[Operation, Code | None]] = [
    (one, code) for one in openapi.OPERATIONS for code in (None, *sorted(one.every_code()))
]
# A node that can give an answer of this code only with other settings.
SETTINGS: Mapping[Code, Mapping[str, str]] = {
    ErrorCode.TOO_MANY_REQUESTS: {
        "BILLING_REQUESTS_PER_MINUTE": "1",
        "BILLING_WEBHOOKS_PER_MINUTE": "1",
    },
    ErrorCode.TOO_MANY_OPEN_PURCHASES: {"BILLING_OPEN_PURCHASES_MAX": "1"},
    WebCode.OUTCOME_UNKNOWN: {"BILLING_REQUEST_DEADLINE": "1s"},
    WebCode.BAD_REQUEST: {"BILLING_BODY_TIMEOUT": "400ms"},
}


@dataclass(frozen=True)
class Stage:
    """A worker with the merchant of the examples, and an operation to ask it for."""

    cluster: Cluster
    operation: Operation
    monkeypatch: pytest.MonkeyPatch

    @property
    def node(self) -> Node:
        """The worker."""
        return self.cluster.nodes[0]

    async def ask(self, path: str | None = None, **options: Any) -> Reply:
        """Ask as the declaration has it, with these differences."""
        one, purchase_id = self.operation, OTHER
        if "{" in one.path and path is None:
            purchase_id = await self.cluster.buy(MERCHANT_ID, 1)
        asked = path or openapi.template(one.path).replace("{purchase_id}", purchase_id)
        options.setdefault("headers", self.headers())
        if not {"data", "json"} & options.keys():
            options |= self.body()
        return await get(self.node.url, asked, method=one.method, **options)

    def headers(self) -> dict[str, str]:
        """What shows who asks."""
        if self.operation.access is CLIENT:
            return client_headers(DOMAIN)
        return operator_headers() if self.operation.access is OPERATOR else {"X-Good": "yes"}

    def body(self, **changes: Any) -> dict[str, Any]:
        """The body of an example, and what is different."""
        if self.operation.body is None:
            return {}
        if "body" not in self.operation.takes:
            return {"data": TOLD}
        example, *_ = openapi.described(self.operation).body_examples.values()
        return {"json": msgspec.to_builtins(example) | changes}


TRIAL = StartTrial(MERCHANT_ID, command_id="trial")
Way = Callable[[Stage], Awaitable[Reply]]


async def forbidden(stage: Stage) -> Reply:
    headers = operator_headers(scope="none")
    if stage.operation.access is CLIENT:
        headers = {**stage.headers(), "X-Shop-Domain": NOBODY}
    return await stage.ask(headers=headers)


async def of_nobody(stage: Stage) -> Reply:
    if stage.operation.access is CLIENT:
        return await stage.ask(headers=client_headers(NOBODY))
    return await stage.ask(**stage.body(merchant_id=OTHER))


async def three_times(stage: Stage) -> Reply:
    return [await stage.ask() for _ in range(3)][-1]


async def with_a_fault(stage: Stage) -> Reply:
    async def fail(*_: object) -> None:
        raise RuntimeError("a fault")

    stage.monkeypatch.setattr(Operation, "_answer", fail)
    return await stage.ask()


async def in_no_time(stage: Stage) -> Reply:
    async def wait(*_: object) -> None:
        await asyncio.sleep(60)

    stage.monkeypatch.setattr(Operation, "_answer", wait)
    return await stage.ask()


async def while_it_stops(stage: Stage) -> Reply:
    stage.node.context.gate.stopping = True
    await stage.node.context.gate.close(0)
    return await stage.ask()


async def slowly(stage: Stage) -> Reply:
    async def parts() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(5)

    return await stage.ask(data=parts())


async def badly(stage: Stage) -> Reply:
    """Without a header that is needed; where there is none, too slowly."""
    if stage.operation.access is CLIENT:
        headers = stage.headers()
        del headers["X-Shop-Platform"]
        return await stage.ask(headers=headers)
    return await slowly(stage)


async def of_no_platform(stage: Stage) -> Reply:
    return await stage.ask(headers={**stage.headers(), "X-Shop-Platform": "ebay"})


async def invalid(stage: Stage) -> Reply:
    if stage.operation.paginated:
        return await stage.ask(stage.operation.path + "?page=0")
    return await stage.ask(json={"more": 1})


async def where_nothing_is(stage: Stage) -> Reply:
    if "{" in stage.operation.path:
        return await stage.ask(PURCHASES + "/none")
    # A platform that is not set up; the clock, which is of tests only.
    cast(dict[Platform, Any], stage.node.context.platforms).clear()
    return await stage.ask()


async def with_a_used_key(stage: Stage) -> Reply:
    headers = {**stage.headers(), "Idempotency-Key": "ticket-4711"}
    if stage.operation.access is CLIENT:
        bought = {"pack": "large", "platform": "stripe", "return_url": "https://app.example/"}
        await get(stage.node.url, PURCHASES, headers, method="POST", json=bought)
    else:
        adjusts = openapi.described(stage.operation).id == "adjustCredits"
        await stage.cluster.do(TRIAL)
        changes: list[dict[str, Any]] = [{}, {"reason": "another"}]
        if adjusts:
            changes = [{"credits": 20}, {"credits": 21}]
        key = {"idempotency_key": "ticket-4711"}
        replies = [
            await stage.ask(**stage.body(**each, **key), headers=headers) for each in changes
        ]
        return replies[-1]
    return await stage.ask(headers=headers)


async def too_early(stage: Stage) -> Reply:
    await stage.cluster.do(TRIAL)
    return await stage.ask(**stage.body(days=None, ends_at="2020-01-01T00:00:00Z"))


async def refused_by_the_platform(stage: Stage) -> Reply:
    stage.cluster.platform.errors.append(no_checkout("no access token"))
    return await stage.ask()


async def refused_by_the_checkout(stage: Stage) -> Reply:
    refusal = CheckoutRefused("shopify refuses the checkout: the price is too low")
    stage.cluster.platform.errors.append(refusal)
    return await stage.ask()


async def after_an_uninstall(stage: Stage) -> Reply:
    await stage.cluster.do(UninstallMerchant(MERCHANT_ID))
    return await stage.ask()


WAYS: Mapping[Code, Way] = {
    WebCode.UNAUTHORIZED: lambda stage: stage.ask(headers={}),
    WebCode.FORBIDDEN: forbidden,
    WebCode.INTERNAL_ERROR: with_a_fault,
    WebCode.NOT_READY: while_it_stops,
    WebCode.OUTCOME_UNKNOWN: in_no_time,
    WebCode.BAD_REQUEST: badly,
    WebCode.UNKNOWN_PLATFORM: of_no_platform,
    WebCode.BODY_TOO_LARGE: lambda stage: stage.ask(data=b"x" * 400_000),
    WebCode.UNSUPPORTED_MEDIA_TYPE: lambda stage: stage.ask(data="{}"),
    WebCode.VALIDATION_ERROR: invalid,
    WebCode.NOT_FOUND: where_nothing_is,
    ErrorCode.MERCHANT_NOT_FOUND: of_nobody,
    ErrorCode.TOO_MANY_REQUESTS: three_times,
    ErrorCode.TOO_MANY_OPEN_PURCHASES: three_times,
    ErrorCode.IDEMPOTENCY_KEY_REUSED: with_a_used_key,
    ErrorCode.PURCHASE_NOT_FOUND: lambda stage: stage.ask(f"{PURCHASES}/{OTHER}"),
    ErrorCode.TRIAL_ALREADY_USED: three_times,
    ErrorCode.MERCHANT_UNINSTALLED: after_an_uninstall,
    ErrorCode.INVALID_PACK: lambda stage: stage.ask(**stage.body(pack="tiny")),
    ErrorCode.PLATFORM_ERROR: refused_by_the_platform,
    ErrorCode.CHECKOUT_REFUSED: refused_by_the_checkout,
    ErrorCode.INSUFFICIENT_CREDITS: lambda stage: stage.ask(**stage.body(credits=-20)),
    ErrorCode.TRIAL_NOT_EXTENDABLE: lambda stage: stage.ask(),
    ErrorCode.INVALID_TRIAL_END: too_early,
    ErrorCode.INVALID_SHOP: lambda stage: stage.ask(**stage.body(domain="127.0.0.1")),
    ErrorCode.CLOCK_REFUSED: lambda stage: stage.ask(**stage.body(forward="4000d")),
}


async def good(stage: Stage) -> Reply:
    """Ask so that nothing is wrong."""
    about = openapi.described(stage.operation)
    if about.id == "adjustCredits":
        return await stage.ask(**stage.body(credits=20))
    if about.id == "extendTrial":
        await stage.cluster.do(TRIAL)
    if about.id == "getHistory":
        # In place of PostgreSQL, see tests/web/test_history.py.
        (paid,) = about.example
        row = msgspec.structs.asdict(paid) | {
            "event_type": paid.type,
            "credits_delta": paid.credits,
            "cause": "http",
            "data": msgspec.json.encode(paid.data),
        }

        async def page(*_: object, **__: object) -> Any:
            return HistoryPage([row], 1, 0)

        stage.monkeypatch.setattr(Projection, "page", page)
    return await stage.ask()


@pytest.mark.logs_errors
@pytest.mark.parametrize(("operation", "code"), CASES, ids=named)
async def test_each_declared_answer_is_given_and_as_described(
    operation: Operation, code: Code | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dict(SETTINGS.get(code, {})) if code is not None else {}
    if code is WebCode.NOT_FOUND and operation.access is OPERATOR:
        settings = {**PRODUCTION, **settings}
    async with cluster(str(tmp_path), {0: [0, 1, 2, 3]}, **settings) as found:
        await found.do(CreateMerchant(MERCHANT_ID, "shopify", DOMAIN, "create"))
        platforms = cast(dict[Platform, Any], found.nodes[0].context.platforms)
        platforms[Platform.CUSTOM] = found.platform
        way = good if code is None else WAYS[code]
        reply = await way(Stage(found, operation, monkeypatch))

    expected = operation.status if code is None else STATUS[code]
    said = None if reply.body["error"] is None else reply.body["error"]["code"]
    assert (reply.status, said) == (expected, code)
    path, method = openapi.template(operation.path), operation.method.lower()
    assert wrong_with(path, method, reply) == []


def test_every_code_that_a_client_can_get_is_declared() -> None:
    declared = {code for one in openapi.OPERATIONS for code in one.every_code()}
    # Where there is no operation; a charge is registered by no request.
    elsewhere = {WebCode.METHOD_NOT_ALLOWED, ErrorCode.CHARGE_MISMATCH}
    assert declared == set(STATUS) - elsewhere
    assert declared == set(WAYS)
