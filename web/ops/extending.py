"""A trial that is extended on a merchant's page: asked for, confirmed, and then once."""

import re
from functools import partial
from http import HTTPStatus

from aiohttp import web
from msgspec import Struct

from billing_stream.domain.commands import TRIAL_DAYS_MAX, ExtendTrial
from billing_stream.domain.outcomes import ErrorCode, TrialExtensionMade
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

EXTEND_PATH = MERCHANT_PATH + "/extend-trial"
_DAYS = re.compile(r"[0-9]{1,4}", re.ASCII)


class ExtensionForm(Struct, frozen=True):
    """An extension as a form has it; `days` is 0 when they are none."""

    days: int = 0
    reason: str = ""
    key: str = ""
    note: str = ""

    def wrong(self) -> str | None:
        """The problem with it, for people."""
        if not 0 < self.days <= TRIAL_DAYS_MAX:
            return f"Days are a whole number from 1 to {TRIAL_DAYS_MAX:,}."
        return wrong_words(self.note, self.reason, "it is kept")


@operation("GET", EXTEND_PATH, SESSION, listeners=OPS, codes=(ErrorCode.MERCHANT_NOT_FOUND,))
async def show_extension(call: Call[Session], merchant_id: str) -> web.Response:
    """The form."""
    return await _show(call, merchant_id, ExtensionForm())


@operation(
    "POST",
    EXTEND_PATH,
    SESSION,
    listeners=OPS,
    codes=(
        ErrorCode.MERCHANT_NOT_FOUND,
        ErrorCode.IDEMPOTENCY_KEY_REUSED,
        ErrorCode.TRIAL_NOT_EXTENDABLE,
        ErrorCode.INVALID_TRIAL_END,
        WebCode.VALIDATION_ERROR,
    ),
)
async def extend(call: Call[Session], merchant_id: str) -> web.Response:
    """First what it will be, to be confirmed; then do it: once per form, however often sent."""
    form = await form_of(call)
    wanted = _wanted(form)
    command = partial(
        ExtendTrial,
        merchant_id.lower(),
        wanted.reason,
        wanted.key,
        days=wanted.days,
        merchant_note=wanted.note or None,
        command_id=new_command_id(),
    )
    show = partial(_show, call, merchant_id, wanted)
    made = await carry_out_form(call, form, wanted.wrong(), command, TrialExtensionMade, show)
    if isinstance(made, web.Response):
        return made
    return see(f"{MERCHANTS_PATH}/{merchant_id.lower()}", done="extended")


async def _show(
    call: Call[Session],
    merchant_id: str,
    wanted: ExtensionForm,
    *,
    confirm: bool = False,
    status: int = HTTPStatus.OK,
    error: str | None = None,
) -> web.Response:
    """The form, or with `confirm` what was asked for and the button."""
    values = {"wanted": wanted, "confirm": confirm, "error": error}
    return await merchant_form(call, merchant_id, "extend_trial.html", status=status, **values)


def _wanted(form: dict[str, str]) -> ExtensionForm:
    days = form.get("days", "")
    return ExtensionForm(
        int(days) if _DAYS.fullmatch(days) else 0,
        form.get("reason", ""),
        key_of(form),
        form.get("note", ""),
    )
