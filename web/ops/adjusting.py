"""Credits given or taken on a merchant's page: asked for, confirmed, and then once."""

import re
from functools import partial
from http import HTTPStatus

from aiohttp import web
from msgspec import Struct

from billing_stream.domain.commands import AdjustCredits
from billing_stream.domain.outcomes import AdjustmentMade, ErrorCode
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

ADJUST_PATH = MERCHANT_PATH + "/adjust"
CREDITS_MAX = 1_000_000
_CREDITS = re.compile(r"[+-]?[0-9]{1,7}", re.ASCII)


class AdjustmentForm(Struct, frozen=True):
    """An adjustment as a form has it; `credits` is not set when they are not a number."""

    credits: int | None
    reason: str
    key: str
    note: str

    def wrong(self) -> str | None:
        """Its problems, for people."""
        if not self.credits or abs(self.credits) > CREDITS_MAX:
            return f"Credits are a whole number up to {CREDITS_MAX:,}, up or down, and not 0."
        return wrong_words(self.note, self.reason, "it is published and kept")


@operation("GET", ADJUST_PATH, SESSION, listeners=OPS, codes=(ErrorCode.MERCHANT_NOT_FOUND,))
async def show_adjustment(call: Call[Session], merchant_id: str) -> web.Response:
    """The form."""
    return await _show(call, merchant_id, AdjustmentForm(None, "", "", ""))


@operation(
    "POST",
    ADJUST_PATH,
    SESSION,
    listeners=OPS,
    codes=(
        ErrorCode.MERCHANT_NOT_FOUND,
        ErrorCode.IDEMPOTENCY_KEY_REUSED,
        ErrorCode.INSUFFICIENT_CREDITS,
        WebCode.VALIDATION_ERROR,
    ),
)
async def adjust(call: Call[Session], merchant_id: str) -> web.Response:
    """First what it will be, to be confirmed; then do it: once per form, however often sent."""
    form = await form_of(call)
    wanted = _wanted(form)
    command = partial(
        AdjustCredits,
        merchant_id.lower(),
        wanted.credits or 0,
        wanted.reason,
        wanted.key,
        new_command_id(),
        wanted.note or None,
    )
    show = partial(_show, call, merchant_id, wanted)
    made = await carry_out_form(call, form, wanted.wrong(), command, AdjustmentMade, show)
    if isinstance(made, web.Response):
        return made
    return see(
        f"{MERCHANTS_PATH}/{merchant_id.lower()}", done="adjusted", credits=str(made.credits)
    )


async def _show(
    call: Call[Session],
    merchant_id: str,
    wanted: AdjustmentForm,
    *,
    confirm: bool = False,
    status: int = HTTPStatus.OK,
    error: str | None = None,
) -> web.Response:
    """The form, or with `confirm` what it comes to and the button."""
    template = "adjust_confirm.html" if confirm else "adjust.html"
    values = {"wanted": wanted, "error": error}
    return await merchant_form(call, merchant_id, template, status=status, **values)


def _wanted(form: dict[str, str]) -> AdjustmentForm:
    credits = form.get("credits", "")
    return AdjustmentForm(
        int(credits) if _CREDITS.fullmatch(credits) else None,
        form.get("reason", ""),
        key_of(form),
        form.get("note", ""),
    )
