"""`/ops/static/{name}`: what the pages are made of, and nothing else."""

from pathlib import Path
from types import MappingProxyType

from aiohttp import web

from billing_stream.web.envelope import ApiError, WebCode
from billing_stream.web.views import ApiView

FILE_PATH = "/ops/static/{name:[a-z0-9.]{1,40}}"
FILES = frozenset({"ops.css", "ops.js", "htmx.min.js", "icon.svg"})

_FOLDER = Path(__file__).parent / "static"
_HEADERS = MappingProxyType(
    {
        "Cache-Control": "no-cache",
        "X-Content-Type-Options": "nosniff",
        "Server": "billing-stream",
    }
)


class OpsFile(ApiView):
    """A file; it is public, as the page for logging in needs it."""

    async def get(self, request: web.Request, name: str) -> web.FileResponse:
        """The file, if it is one of those few."""
        if name not in FILES:
            raise ApiError(WebCode.NOT_FOUND, "there is nothing at this path")
        return web.FileResponse(_FOLDER / name, headers=_HEADERS)
