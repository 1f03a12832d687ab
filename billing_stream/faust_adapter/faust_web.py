"""Faust's web server, as far as this service uses it: views, and the aiohttp application."""

from collections.abc import Callable
from typing import cast

from aiohttp import web
from faust.web.base import BlueprintManager
from faust.web.drivers import aiohttp as driver
from faust.web.exceptions import WebError
from faust.web.views import View

from billing_stream.faust_adapter.faust_app import App

__all__ = ["View", "WebError", "add_view", "take_application"]


def add_view(app: App, path: str, view: type[View]) -> None:
    """Serve a view at this path."""
    app.page(path, name=path)(view)


def take_application(
    app: App, new_runner: Callable[[web.Application], web.AppRunner]
) -> web.Application:
    """The aiohttp application, without the pages of Faust's own, to be served by this runner."""
    server = cast(driver.Web, app.web)
    server.blueprints = BlueprintManager()
    server._runner = new_runner(server.web_app)
    application: web.Application = server.web_app
    return application
