"""What every answer says to browsers and proxies, and how pages ask the database."""

import ast
from pathlib import Path

import pytest

from tests.support.nodes import Cluster, get
from tests.support.tokens import client_headers, operator_headers
from tests.web.conftest import M1

DOMAIN = "one.example"
WEB = Path(__file__).parents[2] / "web"
QUERIES = frozenset({"rows", "fetch", "fetchrow", "fetchval", "execute", "executemany"})
PATHS = (
    "/api/billing",
    "/api/billing/nothing",
    "/internal/queries",
    "/ops",
    "/ops/login",
    "/health",
)


@pytest.mark.parametrize("path", PATHS)
async def test_answers_are_not_stored_and_name_no_version(two: Cluster, path: str) -> None:
    await two.create(M1, DOMAIN)
    for headers in ({}, client_headers(DOMAIN), operator_headers()):
        reply = await get(two.nodes[0].url, path, headers, allow_redirects=False)

        assert reply.headers["Cache-Control"] == "no-store"
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["Server"] == "billing-stream"


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1"])
async def test_no_other_origin_is_allowed_to_read(two: Cluster, origin: str) -> None:
    await two.create(M1, DOMAIN)
    asks = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    for path in PATHS:
        for method in ("GET", "POST", "OPTIONS"):
            headers = {**client_headers(DOMAIN), **asks}
            reply = await get(two.nodes[0].url, path, headers, method=method, allow_redirects=False)
            assert not [name for name in reply.headers if name.lower().startswith("access-control")]


def test_no_query_of_a_page_is_put_together() -> None:
    """A query is a constant of its file: all that comes with a request is a parameter of it."""
    asked, wrong = 0, []
    for path in sorted(WEB.rglob("*.py")):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr in QUERIES and node.args:
                asked += 1
                query = node.args[0]
                if not isinstance(query, ast.Name | ast.Constant):
                    wrong.append(f"{path}:{node.lineno}: {ast.unparse(node)}")
    assert asked > 1
    assert wrong == []
