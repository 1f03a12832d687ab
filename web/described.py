"""The descriptions of the service: `/openapi.json`, `/asyncapi.json`, `/docs`, and `/` with links.

They are public, as a description says nothing that a client may not know. All of it is served
from here; the page asks nothing of others.
"""

from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

import msgspec
from aiohttp import web

from billing_stream.config.settings import Settings
from billing_stream.records import asyncapi
from billing_stream.records.topics import Topics
from billing_stream.web import openapi
from billing_stream.web.envelope import FILE_HEADERS, nothing_here
from billing_stream.web.operation import ANYONE, Call, operation
from billing_stream.web.static_content import StaticContent, content_of

INDEX_PATH = "/"
OPENAPI_PATH = "/openapi.json"
ASYNCAPI_PATH = "/asyncapi.json"
DOCS_PATH = "/docs"
DOCS_FILE_PATH = "/docs/{name:[a-z0-9.-]{1,64}}"

JSON = "application/json"
_OURS = Path(__file__).parent / "static"
INDEX = _OURS / "index.html"
PAGE = _OURS / "docs.html"
# By name in the package `swagger_ui`; no other file of it is served.
SWAGGER_FILES = (
    "swagger-ui-bundle.js",
    "swagger-ui.css",
    "favicon-32x32.png",
)
PAGE_HEADERS = MappingProxyType(
    {
        **FILE_HEADERS,
        # Swagger UI sets styles in its elements; every script is a file of this service.
        "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:",
        "Referrer-Policy": "no-referrer",
        "X-Frame-Options": "DENY",
    }
)


@cache
def files() -> Mapping[str, Path]:
    """The files below `/docs/`, by name. Raises FileNotFoundError when one is not there."""
    # Found and not imported: the package would load a template engine that we do not need.
    spec = find_spec("swagger_ui")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package swagger_ui is not installed")
    static = Path(spec.origin).parent / "static"
    found = {name: static / name for name in SWAGGER_FILES}
    found["docs.js"] = _OURS / "docs.js"
    for path in found.values():
        if not path.is_file():
            raise FileNotFoundError(path)
    return MappingProxyType(found)


@cache
def openapi_json() -> StaticContent:
    """The description of the HTTP API."""
    return StaticContent(msgspec.json.encode(openapi.document()), JSON)


@cache
def asyncapi_json() -> StaticContent:
    """The description of the topics, under the names they have without a prefix."""
    return StaticContent(msgspec.json.encode(asyncapi.document(default_topics())), JSON)


def default_topics() -> Topics:
    """The topics as they are without settings of their own."""
    return Topics(str(Settings.model_fields["app_id"].default))


@operation("GET", INDEX_PATH, ANYONE)
async def get_index(call: Call[None]) -> web.Response:
    """A page with links to all that a person may look for here."""
    return content_of(INDEX).response(call.request, PAGE_HEADERS)


@operation("GET", OPENAPI_PATH, ANYONE)
async def get_openapi(call: Call[None]) -> web.Response:
    """The description of the HTTP API."""
    return openapi_json().response(call.request)


@operation("GET", ASYNCAPI_PATH, ANYONE)
async def get_asyncapi(call: Call[None]) -> web.Response:
    """The description of the topics."""
    return asyncapi_json().response(call.request)


@operation("GET", DOCS_PATH, ANYONE)
async def get_docs(call: Call[None]) -> web.Response:
    """The OpenAPI description as a page, with Swagger UI."""
    return content_of(PAGE).response(call.request, PAGE_HEADERS)


@operation("GET", DOCS_FILE_PATH, ANYONE)
async def get_docs_file(call: Call[None], name: str) -> web.Response:
    """What the page is made of: one of a few files."""
    path = files().get(name)
    if path is None:
        raise nothing_here()
    return content_of(path).response(call.request, PAGE_HEADERS)


OPERATIONS = (get_index, get_openapi, get_asyncapi, get_docs, get_docs_file)
