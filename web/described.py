"""The descriptions of the service, from itself: `/openapi.json`, `/asyncapi.json`, `/docs`.

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

OPENAPI_PATH = "/openapi.json"
ASYNCAPI_PATH = "/asyncapi.json"
DOCS_PATH = "/docs"
DOCS_FILE_PATH = "/docs/{name:[a-z0-9.-]{1,64}}"

_OURS = Path(__file__).parent / "static"
PAGE = _OURS / "docs.html"
# By name in the package `swagger_ui`; no other file of it is served.
SWAGGER_FILES = (
    "swagger-ui-bundle.js",
    "swagger-ui-standalone-preset.js",
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
def openapi_json() -> bytes:
    """The description of the HTTP API."""
    return msgspec.json.encode(openapi.document())


@cache
def asyncapi_json() -> bytes:
    """The description of the topics, under the names they have without a prefix."""
    return msgspec.json.encode(asyncapi.document(default_topics()))


def default_topics() -> Topics:
    """The topics as they are without settings of their own."""
    return Topics(str(Settings.model_fields["app_id"].default))


@operation("GET", OPENAPI_PATH, ANYONE)
async def get_openapi(call: Call[None]) -> web.Response:
    """The description of the HTTP API."""
    return _document(openapi_json())


@operation("GET", ASYNCAPI_PATH, ANYONE)
async def get_asyncapi(call: Call[None]) -> web.Response:
    """The description of the topics."""
    return _document(asyncapi_json())


@operation("GET", DOCS_PATH, ANYONE)
async def get_docs(call: Call[None]) -> web.FileResponse:
    """The OpenAPI description as a page, with Swagger UI."""
    return web.FileResponse(PAGE, headers=PAGE_HEADERS)


@operation("GET", DOCS_FILE_PATH, ANYONE)
async def get_docs_file(call: Call[None], name: str) -> web.FileResponse:
    """What the page is made of: one of a few files."""
    path = files().get(name)
    if path is None:
        raise nothing_here()
    return web.FileResponse(path, headers=PAGE_HEADERS)


OPERATIONS = (get_openapi, get_asyncapi, get_docs, get_docs_file)


def _document(encoded: bytes) -> web.Response:
    return web.Response(body=encoded, content_type="application/json", headers=FILE_HEADERS)
