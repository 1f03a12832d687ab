"""The descriptions of the service, from itself: `/openapi.json`, `/asyncapi.json`, `/docs`.

They are public, as a description says nothing that a client may not know. All of it is served
from here; the page asks nothing of others.
"""

from collections.abc import Callable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

import msgspec
from aiohttp import web

from billing_stream.config.settings import Settings
from billing_stream.records import asyncapi
from billing_stream.records.topics import Topics
from billing_stream.web import openapi
from billing_stream.web.envelope import ApiError, WebCode
from billing_stream.web.views import ApiView

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
_HEADERS = MappingProxyType(
    {
        "Cache-Control": "no-cache",
        "X-Content-Type-Options": "nosniff",
        "Server": "billing-stream",
    }
)
PAGE_HEADERS = MappingProxyType(
    {
        **_HEADERS,
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


class _Document(ApiView):
    encoded: ClassVar[Callable[[], bytes]]

    async def get(self, request: web.Request) -> web.Response:
        """The document."""
        return web.Response(
            body=type(self).encoded(), content_type="application/json", headers=_HEADERS
        )


class OpenApi(_Document):
    """`/openapi.json`"""

    encoded = staticmethod(openapi_json)


class AsyncApi(_Document):
    """`/asyncapi.json`"""

    encoded = staticmethod(asyncapi_json)


class Docs(ApiView):
    """`/docs`: the OpenAPI description as a page, with Swagger UI."""

    async def get(self, request: web.Request) -> web.FileResponse:
        """The page."""
        return web.FileResponse(PAGE, headers=PAGE_HEADERS)


class DocsFile(ApiView):
    """`/docs/{name}`: what the page is made of."""

    async def get(self, request: web.Request, name: str) -> web.FileResponse:
        """The file, if it is one of those few."""
        path = files().get(name)
        if path is None:
            raise ApiError(WebCode.NOT_FOUND, "there is nothing at this path")
        return web.FileResponse(path, headers=PAGE_HEADERS)


PAGES: tuple[tuple[str, type[ApiView]], ...] = (
    (OPENAPI_PATH, OpenApi),
    (ASYNCAPI_PATH, AsyncApi),
    (DOCS_PATH, Docs),
    (DOCS_FILE_PATH, DocsFile),
)
