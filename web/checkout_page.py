"""The checkout page of development and tests: a person, or the demo, pays or declines.

It replaces the platform's own page, and reports the outcome as the platform would: by a
record on the webhook topic.
"""

from html import escape
from urllib.parse import parse_qs

from aiohttp import web

from billing_stream.errors import PlatformError
from billing_stream.platforms.local import LocalCheckout, read_token
from billing_stream.records import topics as names
from billing_stream.records.invalid_fields import Rule
from billing_stream.web.envelope import ApiError, WebCode, invalid
from billing_stream.web.ingress import WebhookRecord
from billing_stream.web.limits import read_body
from billing_stream.web.operation import ANYONE, Call, operation

CHECKOUT_PATH = "/dev/checkout/{token}"
STATUSES = {"pay": "ACTIVE", "decline": "DECLINED"}

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 26rem; margin: 4rem auto; padding: 0 1rem;
       color-scheme: light dark; }
h1 { font-size: 1.3rem; } p.amount { font-size: 2rem; margin: 0; }
button { font: inherit; padding: .5rem 1.2rem; margin: 1rem .5rem 0 0; cursor: pointer; }
small { opacity: .75; overflow-wrap: anywhere; }
"""
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@operation("GET", CHECKOUT_PATH, ANYONE)
async def show_checkout(call: Call[None], token: str) -> web.Response:
    """Show the amount to be paid."""
    checkout = _checkout(call, token)
    return _page(
        f"""<h1>{escape(checkout.title)}</h1>
<p class="amount">{escape(checkout.amount)} {escape(checkout.currency)}</p>
<form method="post">
<button name="action" value="pay">Pay</button>
<button name="action" value="decline">Decline</button>
</form>
<p><small>No money moves here: this page replaces the payment platform.<br>
Charge {escape(checkout.charge_id)}</small></p>"""
    )


@operation("POST", CHECKOUT_PATH, ANYONE, codes=(WebCode.VALIDATION_ERROR,))
async def finish_checkout(call: Call[None], token: str) -> web.Response:
    """Pay or decline: the platform's webhook is put on its topic."""
    checkout = _checkout(call, token)
    form = parse_qs((await read_body(call.request)).decode("ascii", "replace"))
    status = STATUSES.get("".join(form.get("action", [])))
    if status is None:
        raise invalid("action", "`action` must be pay or decline", Rule.CHOICE)
    await call.context.ingress.put(
        WebhookRecord(
            topic=names.PURCHASE_UPDATED,
            key=checkout.merchant_id,
            data={
                "merchant_id": checkout.merchant_id,
                "charge_id": checkout.charge_id,
                "status": status,
            },
            correlation_id=call.ids.correlation_id,
            platform="local",
        )
    )
    paid = status == STATUSES["pay"]
    said = "Paid" if paid else "Declined"
    back = escape(checkout.back(paid=paid))
    return _page(f'<h1>{said}.</h1><p>Continue to <a href="{back}">{back}</a></p>')


OPERATIONS = (show_checkout, finish_checkout)


def _checkout(call: Call[None], token: str) -> LocalCheckout:
    try:
        return read_token(token, call.context.internal_secrets[0])
    except PlatformError as error:
        raise ApiError(WebCode.NOT_FOUND, str(error)) from None


def _page(body: str) -> web.Response:
    return web.Response(
        text=f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Checkout (development)</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>{_STYLE}</style></head>
<body><main>
{body}
</main></body></html>
""",
        content_type="text/html",
        headers=_HEADERS,
    )
