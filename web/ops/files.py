"""`/ops/static/{name}`: what the pages are made of, and nothing else."""

from pathlib import Path

from aiohttp import web

from billing_stream.web.envelope import nothing_here
from billing_stream.web.operation import ANYONE, OPS, Call, operation
from billing_stream.web.static_content import content_of

FILE_PATH = "/ops/static/{name:[a-z0-9.]{1,40}}"
FILES = frozenset({"ops.css", "ops.js", "htmx.min.js", "icon.svg"})

_FOLDER = Path(__file__).parent / "static"


@operation("GET", FILE_PATH, ANYONE, listeners=OPS)
async def get_file(call: Call[None], name: str) -> web.Response:
    """One of a few files. They are public, as the page for logging in needs them."""
    if name not in FILES:
        raise nothing_here()
    return content_of(_FOLDER / name).response(call.request)
