"""The shop of a merchant, set on its page: asked for, confirmed, and then once."""

from functools import partial
from http import HTTPStatus

from aiohttp import web
from msgspec import Struct
from msgspec.structs import replace

from billing_stream.domain.commands import SetShop
from billing_stream.domain.outcomes import ErrorCode, ShopSet
from billing_stream.domain.shop_names import shop_names
from billing_stream.web.commands import new_command_id
from billing_stream.web.envelope import WebCode
from billing_stream.web.operation import OPS, Call, operation
from billing_stream.web.ops.change_forms import (
    carry_out_form,
    key_of,
    merchant_form,
    wrong_words,
)
from billing_stream.web.ops.merchant_pages import MERCHANT_PATH, MERCHANTS_PATH
from billing_stream.web.ops.ops_views import SESSION, form_of, see
from billing_stream.web.ops.session import Session

SHOP_PATH = MERCHANT_PATH + "/shop"


class ShopForm(Struct, frozen=True):
    """A shop as a form has it, its names in their one form unless they are `wrong`."""

    platform: str = ""
    domain: str = ""
    reason: str = ""
    key: str = ""
    wrong: str | None = None


@operation("GET", SHOP_PATH, SESSION, listeners=OPS, codes=(ErrorCode.MERCHANT_NOT_FOUND,))
async def show_shop(call: Call[Session], merchant_id: str) -> web.Response:
    """The form."""
    return await _show(call, merchant_id, ShopForm())


@operation(
    "POST",
    SHOP_PATH,
    SESSION,
    listeners=OPS,
    codes=(
        ErrorCode.MERCHANT_NOT_FOUND,
        ErrorCode.IDEMPOTENCY_KEY_REUSED,
        ErrorCode.INVALID_SHOP,
        WebCode.VALIDATION_ERROR,
    ),
)
async def set_shop(call: Call[Session], merchant_id: str) -> web.Response:
    """First which shop it will be, to be confirmed; then do it: once per form."""
    form = await form_of(call)
    wanted = _wanted(form)
    command = partial(
        SetShop,
        merchant_id.lower(),
        wanted.platform,
        wanted.domain,
        wanted.reason,
        wanted.key,
        new_command_id(),
    )
    show = partial(_show, call, merchant_id, wanted)
    made = await carry_out_form(call, form, wanted.wrong, command, ShopSet, show)
    if isinstance(made, web.Response):
        return made
    return see(f"{MERCHANTS_PATH}/{merchant_id.lower()}", done="shop")


async def _show(
    call: Call[Session],
    merchant_id: str,
    wanted: ShopForm,
    *,
    confirm: bool = False,
    status: int = HTTPStatus.OK,
    error: str | None = None,
) -> web.Response:
    """The form, or with `confirm` what was asked for and the button."""
    values = {"wanted": wanted, "confirm": confirm, "error": error}
    return await merchant_form(call, merchant_id, "set_shop.html", status=status, **values)


def _wanted(form: dict[str, str]) -> ShopForm:
    platform, domain, reason = (form.get(name, "") for name in ("platform", "domain", "reason"))
    wanted = ShopForm(platform, domain, reason, key_of(form))
    try:
        platform, domain = shop_names(platform, domain)
    except ValueError as error:
        return replace(wanted, wrong=f"This names no shop: {error}.")
    wrong = wrong_words("", reason, "it is kept")
    return replace(wanted, platform=platform, domain=domain, wrong=wrong)
