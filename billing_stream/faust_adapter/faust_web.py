"""Faust's web server, as far as this service uses it: views, and the aiohttp application."""

from collections.abc import Awaitable, Callable, Mapping
from typing import ClassVar, cast

from aiohttp import web
from faust.web.base import BlueprintManager
from faust.web.drivers import aiohttp as driver
from faust.web.views import View

from billing_stream.faust_adapter.faust_app import App

Handler = Callable[..., Awaitable[web.StreamResponse]]


class _Path(View):
    """A view of Faust's with these methods, and no others."""

    handlers: ClassVar[Mapping[str, Handler]]

    def __post_init__(self) -> None:
        self.methods = {method.lower(): handler for method, handler in self.handlers.items()}

    def get_methods(self) -> set[str]:
        """The methods that are routed."""
        return set(self.handlers)


def add_view(app: App, path: str, handlers: Mapping[str, Handler]) -> None:
    """Serve handlers, by method, at this path; they get its parameters by name."""
    app.page(path, name=path)(type("_Path", (_Path,), {"handlers": handlers}))


def take_application(
    app: App, new_runner: Callable[[web.Application], web.AppRunner]
) -> web.Application:
    """The aiohttp application, without the pages of Faust's own, to be served by this runner."""
    server = cast(driver.Web, app.web)
    server.blueprints = BlueprintManager()
    server._runner = new_runner(server.web_app)
    application: web.Application = server.web_app
    return application
