"""The service shows its own descriptions, and asks nothing of others to do so."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from billing_stream.records import asyncapi
from billing_stream.records.topics import Topics
from billing_stream.web import openapi
from billing_stream.web.described import PAGE, SWAGGER_FILES, files
from tests.support.browser import browser
from tests.support.nodes import Node, cluster, get

TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".png": "image/png",
    ".js": "text/javascript",
}
POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"


@pytest_asyncio.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with cluster(str(tmp_path), {0: [0, 1, 2, 3]}) as found:
        yield found.nodes[0]


async def test_the_descriptions_are_served(node: Node) -> None:
    api = await node.get("/openapi.json")
    topics = await node.get("/asyncapi.json")

    assert (api.status, topics.status) == (200, 200)
    assert api.body == json.loads(json.dumps(openapi.document()))
    assert topics.body == json.loads(json.dumps(asyncapi.document(Topics("billing-stream"))))
    for reply in (api, topics):
        assert reply.headers["Content-Type"].startswith("application/json")
        assert reply.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("path", ["/docs", "/docs/"])
async def test_the_page_is_served(node: Node, path: str) -> None:
    reply = await node.get(path)

    assert reply.status == 200
    assert reply.raw == PAGE.read_bytes()
    assert reply.headers["Content-Type"].startswith("text/html")
    assert reply.headers["Content-Security-Policy"] == POLICY
    assert reply.headers["X-Content-Type-Options"] == "nosniff"


async def test_a_browser_shows_the_operations_of_this_service_only(node: Node) -> None:
    async with browser() as started:
        page = await started.new_page()
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        await page.goto(f"{node.url}/docs")
        await page.locator("#operations-purchases-openPurchase").wait_for()

        # It would show any description that somebody names.
        assert await page.get_by_role("button", name="Explore").count() == 0
        assert complaints == []


async def test_all_that_the_page_asks_for_is_served_from_here(node: Node) -> None:
    page = PAGE.read_text()
    wanted = re.findall(r'(?:src|href)="([^"]+)"', page)

    assert "http:" not in page
    assert "https:" not in page
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bon\w+=|style=", page)
    assert {f"/docs/{name}" for name in files()} | {"/openapi.json"} == set(wanted)
    for path in wanted:
        reply = await node.get(path)
        assert reply.status == 200


@pytest.mark.parametrize("name", [*SWAGGER_FILES, "docs.js"])
async def test_its_files_are_whole_and_of_their_type(node: Node, name: str) -> None:
    reply = await node.get(f"/docs/{name}")

    assert reply.status == 200
    assert reply.raw == files()[name].read_bytes()
    kind = reply.headers["Content-Type"].partition(";")[0]
    assert kind.replace("application/javascript", "text/javascript") == TYPES[Path(name).suffix]
    assert reply.headers["Content-Security-Policy"] == POLICY
    assert reply.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "name",
    [
        "swagger-editor.js",
        "index.css",
        "LICENSE",
        "docs.html",
        "..",
        "../described.py",
        "..%2fdescribed.py",
        "%2e%2e/static/docs.js",
        "....//docs.js",
        "docs.js%00",
        "/etc/passwd",
        "swagger-ui.css.map",
    ],
)
async def test_no_other_file_is_served(node: Node, name: str) -> None:
    # Not as a client would write it: a URL with dots is made shorter before it is sent.
    assert await raw_status(node, f"/docs/{name}") == 404


async def raw_status(node: Node, target: str) -> int:
    """The status of a GET with this target, byte for byte."""
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    async with asyncio.timeout(5):
        await writer.drain()
        answer = await reader.read()
    writer.close()
    return int(answer.split(b" ", 2)[1])


async def test_nothing_but_reading_is_possible(node: Node) -> None:
    for path in ("/openapi.json", "/asyncapi.json", "/docs", "/docs/docs.js"):
        reply = await get(node.url, path, method="POST")
        assert (reply.status, reply.code) == (405, "METHOD_NOT_ALLOWED")


async def test_what_is_known_already_is_not_sent_again(node: Node) -> None:
    first = await node.get("/docs/swagger-ui.css")
    again = await get(node.url, "/docs/swagger-ui.css", {"If-None-Match": first.headers["ETag"]})

    assert (again.status, again.raw) == (304, b"")


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [("gzip", "gzip"), ("br, GZIP;q=0.5", "gzip"), ("gzip;q=0", None), ("br", None), ("", None)],
)
async def test_content_is_compressed_for_clients_that_take_it(
    node: Node, accepted: str, encoding: str | None
) -> None:
    for path in ("/openapi.json", "/docs/swagger-ui-bundle.js", "/ops/static/ops.css"):
        plain = await get(node.url, path, {"Accept-Encoding": "identity"})
        reply = await get(node.url, path, {"Accept-Encoding": accepted})
        assert reply.headers.get("Content-Encoding") == encoding
        assert reply.headers["Vary"] == "Accept-Encoding"
        assert reply.headers["ETag"] == plain.headers["ETag"]
        assert reply.raw == plain.raw
        if encoding:
            assert int(reply.headers["Content-Length"]) < len(plain.raw) / 2


async def test_the_first_page_links_to_what_people_look_for(node: Node) -> None:
    page = await node.get("/")
    assert page.status == 200
    links = set(re.findall(r'<a href="([^"]+)"', page.raw.decode()))
    assert links == {
        *("/docs", "/openapi.json", "/asyncapi.json"),
        *("/health", "/ready", "/ops", "/metrics"),
    }
    for link in links:
        reply = await get(node.url, link, {"Accept": "text/html"})
        assert reply.status in (200, 303), link
