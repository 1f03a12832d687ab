"""The platforms as one local server: charges can be paid there, and no webhook is ever sent."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web
from aiohttp.test_utils import TestServer


class PlatformsStandIn:
    """Charges of Stripe, Shopify and a gateway by their ids; `asked` counts look-ups.

    While `busy` is above 0, look-ups are answered with 429, and it goes down.
    """

    def __init__(self) -> None:
        self.url = ""
        self.charges: dict[str, dict[str, Any]] = {}
        self.paid: set[str] = set()
        self.asked: list[str] = []
        self.busy = 0
        self.undelivered: list[dict[str, Any]] = []

    def pay(self, charge_id: str) -> None:
        """The money is taken."""
        self.paid.add(charge_id)

    def _open(self, charge_id: str, **fields: Any) -> str:
        self.charges[charge_id] = fields
        return charge_id

    def _busy(self, charge_id: str) -> web.Response | None:
        self.asked.append(charge_id)
        if self.busy:
            self.busy -= 1
            return web.Response(status=429, headers={"Retry-After": "1.0"})
        return None if charge_id in self.charges else web.json_response({}, status=404)

    async def open_session(self, request: web.Request) -> web.Response:
        """Stripe: POST /v1/checkout/sessions."""
        form = dict(parse_qsl(await request.text()))
        names = ("merchant_id", "purchase_id")
        metadata = {name: form[f"metadata[{name}]"] for name in names}
        price = "line_items[0][price_data]"
        found = self._open(
            f"cs_test_{len(self.charges)}",
            object="checkout.session",
            metadata=metadata,
            amount_total=int(form[f"{price}[unit_amount]"]),
            currency=form[f"{price}[currency]"],
        )
        return web.json_response({"id": found, "url": f"https://pay.example/{found}"})

    async def read_session(self, request: web.Request) -> web.Response:
        """Stripe: GET /v1/checkout/sessions/{id}."""
        charge_id = request.match_info["id"]
        busy = self._busy(charge_id)
        if busy is not None:
            return busy
        paid = charge_id in self.paid
        status = ("complete", "paid") if paid else ("open", "unpaid")
        more = {"id": charge_id, "status": status[0], "payment_status": status[1]}
        return web.json_response({**self.charges[charge_id], **more})

    async def events(self, request: web.Request) -> web.Response:
        """Stripe: GET /v1/events, newest first, 100 on a page."""
        query = request.query
        assert query["delivery_success"] == "false"
        since, last = int(query["created[gte]"]), query.get("starting_after")
        found = [event for event in reversed(self.undelivered) if event["created"] >= since]
        if last is not None:
            found = found[[event["id"] for event in found].index(last) + 1 :]
        page = found[: int(query["limit"])]
        return web.json_response({"data": page, "has_more": len(found) > len(page)})

    async def graphql(self, request: web.Request) -> web.Response:
        """Shopify: a purchase is created, or looked up by its id."""
        asked = (await request.json())["variables"]
        if "id" in asked:
            charge_id = asked["id"]
            busy = self._busy(charge_id)
            if busy is not None:
                return busy
            status = "ACTIVE" if charge_id in self.paid else "PENDING"
            node = {"id": charge_id, "status": status, "price": self.charges[charge_id]["price"]}
            return web.json_response({"data": {"node": node}})
        number = len(self.charges)
        found = self._open(f"gid://shopify/AppPurchaseOneTime/{number}", price=asked["price"])
        created = {
            "appPurchaseOneTime": {"id": found, "test": True},
            "confirmationUrl": f"https://pay.example/{number}",
            "userErrors": [],
        }
        return web.json_response({"data": {"appPurchaseOneTimeCreate": created}})

    async def open_charge(self, request: web.Request) -> web.Response:
        """The gateway: POST /checkouts."""
        asked = await request.json()
        found = self._open(
            f"c-{len(self.charges)}", merchant_id=asked["merchant_id"], amount=asked["amount"]
        )
        return web.json_response(
            {"charge_id": found, "checkout_url": f"https://pay.example/{found}"}, status=201
        )

    async def read_charge(self, request: web.Request) -> web.Response:
        """The gateway: GET /charges/{id}."""
        charge_id = request.match_info["id"]
        busy = self._busy(charge_id)
        if busy is not None:
            return busy
        status = "active" if charge_id in self.paid else "pending"
        found = {"charge_id": charge_id, "status": status, **self.charges[charge_id]}
        return web.json_response(found)


@asynccontextmanager
async def stand_in() -> AsyncIterator[PlatformsStandIn]:
    """A server on a port of its own."""
    found, app = PlatformsStandIn(), web.Application()
    app.router.add_post("/v1/checkout/sessions", found.open_session)
    app.router.add_get("/v1/checkout/sessions/{id}", found.read_session)
    app.router.add_get("/v1/events", found.events)
    app.router.add_post("/admin/api/{version}/graphql.json", found.graphql)
    app.router.add_post("/checkouts", found.open_charge)
    app.router.add_get("/charges/{id}", found.read_charge)
    server = TestServer(app)
    await server.start_server(shutdown_timeout=0.1)
    found.url = f"http://127.0.0.1:{server.port}"
    try:
        yield found
    finally:
        await server.close()


def settings_of(platforms: PlatformsStandIn, domain: str) -> dict[str, str]:
    """The environment of workers whose platforms these are."""
    return {
        "SHOPIFY_API_SECRET": "shopify-secret-for-tests-0123456789",
        "SHOPIFY_API_VERSION": "2026-10",
        "SHOPIFY_ACCESS_TOKENS": f'{{"{domain}": "shpat_for_tests"}}',
        "SHOPIFY_API_URL": platforms.url,
        "STRIPE_API_KEY": "sk_test_for_tests",
        "STRIPE_WEBHOOK_SECRET": "whsec_for_tests_0123456789",
        "STRIPE_API_URL": platforms.url,
        "CUSTOM_GATEWAY_URL": platforms.url + "/checkouts",
        "CUSTOM_GATEWAY_LOOKUP_URL": platforms.url + "/charges/{charge_id}",
        "CUSTOM_GATEWAY_SECRET": "gateway-secret-for-tests-0123456789",
    }
