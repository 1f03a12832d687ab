"""A logout at one worker ends the session at another one, and at one that starts later."""

import asyncio
import re
from pathlib import Path

import pytest

from tests.support.nodes import Reply, get
from tests.support.tokens import operator_token
from tests.support.worker import Worker, create_topics, environment, worker

BROWSER = {"Accept": "text/html"}
pytestmark = pytest.mark.timeout(240)


async def ask(one: Worker, path: str, cookie: str, form: dict[str, str] | None = None) -> Reply:
    headers = {**BROWSER, "Cookie": cookie}
    method = "GET" if form is None else "POST"
    return await get(one.url, path, headers, method=method, data=form, allow_redirects=False)


async def until(one: Worker, cookie: str, status: int) -> None:
    """Wait until the worker answers so."""
    for _ in range(400):
        if (await ask(one, "/ops/workers", cookie)).status == status:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{one.url} does not answer {status}")


async def test_a_logout_ends_the_session_on_all_workers(
    kafka: str, prefix: str, folder: Path
) -> None:
    env = environment(kafka, prefix)
    await create_topics(env)
    async with worker(env, folder) as first:
        async with worker(env, folder) as second:
            form = {"token": operator_token("olga"), "next": "/ops"}
            cookie = (await ask(first, "/ops/login", "", form)).headers["Set-Cookie"].split(";")[0]
            for one in (first, second):
                await until(one, cookie, 200)
            page = await ask(first, "/ops/merchants/11111111-1111-4111-8111-111111111111", cookie)
            found = re.search(rb'name="csrf" value="([0-9a-f]{64})"', page.raw)
            assert found is not None, page.raw
            out = await ask(first, "/ops/logout", cookie, {"csrf": found[1].decode()})

            assert out.status == 303
            assert (await ask(first, "/ops/workers", cookie)).status == 303
            await until(second, cookie, 303)
        async with worker(env, folder) as later:
            await until(later, cookie, 303)
