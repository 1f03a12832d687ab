"""Operations are declared with their handlers, and nothing else is routed."""

from pathlib import Path
from typing import Any, cast

import pytest

from billing_stream.config.listener_settings import Listener
from billing_stream.web import checkout_page, operators, server
from billing_stream.web.openapi import template
from billing_stream.web.operation import ANYONE, Answer, Call, operation
from tests.support.nodes import cluster


async def test_nothing_but_declared_operations_is_routed(tmp_path: Path) -> None:
    every = (*server.OPERATIONS, *operators.TEST_OPERATIONS, *checkout_page.OPERATIONS)
    declared = {(one.method, template(one.path)) for one in every}
    declared |= {("HEAD", template(one.path)) for one in every if one.method == "GET"}
    async with cluster(str(tmp_path), {0: [0, 1, 2, 3]}) as found:
        router = cast(Any, found.nodes[0].app.web).web_app.router
        routed = {
            (one.method, one.resource.canonical.rstrip("/") or "/") for one in router.routes()
        }

    assert routed <= declared
    local = {(one.method, template(one.path)) for one in checkout_page.OPERATIONS}
    assert {route for route in declared - routed if route[0] != "HEAD"} <= local


def test_a_handler_that_takes_what_there_is_not_is_refused() -> None:
    async def handler(call: Call[None], key: str) -> Answer[None]:
        return Answer(None)

    async def unnamed(call: Call[None], merchant_id: str) -> Answer[None]:
        return Answer(None)

    for each, path in ((handler, "/api/x"), (unnamed, "/api/{id}")):
        declare: Any = operation("POST", path, ANYONE)
        with pytest.raises(TypeError, match=f"POST {path} has no such arguments"):
            declare(each)


def test_one_part_of_paths_on_two_listeners_is_refused() -> None:
    @operation("GET", "/api/x", ANYONE, listeners=frozenset({Listener.INTERNAL}))
    async def handler(call: Call[None]) -> Answer[None]:
        return Answer(None)

    with pytest.raises(ValueError, match="/api/x"):
        server._served_on([*server.OPERATIONS, handler])
