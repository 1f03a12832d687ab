"""The web part of a worker, put onto Faust's own web server."""

import logging
from typing import cast

import faust
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from faust.web.base import BlueprintManager
from faust.web.drivers import aiohttp as driver

from billing_stream import topics as names
from billing_stream.engine.lanes import Lanes
from billing_stream.settings import Settings
from billing_stream.topics import Topics
from web import billing, health
from web.internal import Queries
from web.owners import QUERIES_PATH, Owners
from web.progress import Progress
from web.views import ApiView, Context, add_page, envelope_middleware

logger = logging.getLogger(__name__)

PAGES: tuple[tuple[str, type[ApiView]], ...] = (
    (billing.BILLING_PATH, billing.Billing),
    (billing.TRIALS_PATH, billing.Trials),
    (billing.PURCHASES_PATH, billing.Purchases),
    (billing.PURCHASE_PATH, billing.Purchase),
    (health.HEALTH_PATH, health.Health),
    (health.READY_PATH, health.Ready),
    (QUERIES_PATH, Queries),
)


def register(app: faust.App, lanes: Lanes, topics: Topics, settings: Settings) -> Context:
    """Add every page; whatever goes wrong, the answer has one shape."""
    client_secret = settings.client_jwt_secret.get_secret_value()
    internal_secret = settings.internal_jwt_secret.get_secret_value()
    owners = Owners(
        app,
        lanes,
        changelog=topics.changelog(names.BILLING_RECORDS),
        partitions=settings.partitions,
        internal_secret=internal_secret,
    )
    context = Context(owners, Progress(lanes), client_secret, internal_secret)
    for path, view in PAGES:
        add_page(app, path, view, context)
    _set_up_server(cast(driver.Web, app.web), owners)
    app.task(context.progress.watch)
    return context


def _set_up_server(server: driver.Web, owners: Owners) -> None:
    # Faust's own pages are not ours to show.
    server.blueprints = BlueprintManager()
    server.web_app.middlewares.append(envelope_middleware)

    async def close(_: web.Application) -> None:
        await owners.close()

    server.web_app.on_cleanup.append(close)
    logging.getLogger("aiohttp.server").addFilter(hush_malformed)


def hush_malformed(record: logging.LogRecord) -> bool:
    """Keep what is no HTTP out of the log.

    aiohttp answers it with 400, but logs an error with the bytes: a line that was too long
    may be a token, and anyone could fill the log.
    """
    error = record.exc_info[1] if record.exc_info else None
    if not isinstance(error, HttpProcessingError):
        return True
    logger.info("refused what is no HTTP: %s", type(error).__name__)
    return False
