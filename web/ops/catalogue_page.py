"""The catalogue: the packs on sale, the versions that come, and every one that was set."""

from aiohttp import web

from billing_stream.web.operation import OPS, Call, operation
from billing_stream.web.ops.ops_views import SESSION, page, page_of
from billing_stream.web.ops.session import Session

CATALOGUE_PATH = "/ops/catalogue"
LIMIT = 10


@operation("GET", CATALOGUE_PATH, SESSION, listeners=OPS)
async def show_catalogue(call: Call[Session]) -> web.Response:
    """The packs now, the versions to come, retired packs, and the history."""
    shown = page_of(call, LIMIT)
    course = await call.context.dashboard.catalogue()
    return page(
        call,
        "catalogue.html",
        catalogue=course.now,
        versions=course.versions[shown.skip : shown.skip + shown.limit],
        pages=shown.of(len(course.versions)),
    )
