"""A trial that is extended on a merchant's page: asked for, confirmed, and then once."""

import re
import uuid
from http import HTTPStatus

from aiohttp import web
from msgspec import Struct

from billing_stream.domain.commands import TRIAL_DAYS_MAX, ExtendTrial
from billing_stream.domain.outcomes import ErrorCode, TrialExtensionMade
from billing_stream.web.billing import known
from billing_stream.web.commands import new_command_id
from billing_stream.web.envelope import ApiError, WebCode
from billing_stream.web.operation import OPS, Call, operation
from billing_stream.web.operators import carry_out_for
from billing_stream.web.ops.merchant_pages import MERCHANT_PATH, MERCHANTS_PATH
from billing_stream.web.ops.ops_views import REASON_MAX, SESSION, form_of, page, see, wrong_reason
from billing_stream.web.ops.session import Session
from billing_stream.web.owners import ReadMerchant

EXTEND_PATH = MERCHANT_PATH + "/extend-trial"
_DAYS = re.compile(r"[0-9]{1,4}", re.ASCII)
_KEY = re.compile(r"ops/[0-9a-f-]{36}", re.ASCII)


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
        if self.note and wrong_reason(self.note, ""):
            return f"The note for the merchant has at most {REASON_MAX} characters, no controls."
        return wrong_reason(self.reason, "it is kept")


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
    wrong = wanted.wrong()
    if wrong is not None:
        status = HTTPStatus.UNPROCESSABLE_ENTITY
        return await _show(call, merchant_id, wanted, status=status, error=wrong)
    if form.get("confirmed") != "yes":
        return await _show(call, merchant_id, wanted, confirm=True)
    command = ExtendTrial(
        merchant_id.lower(),
        wanted.reason,
        wanted.key,
        days=wanted.days,
        merchant_note=wanted.note or None,
        command_id=new_command_id(),
    )
    try:
        await carry_out_for(call, call.who.operator, command, TrialExtensionMade)
    except ApiError as error:
        return await _show(
            call,
            merchant_id,
            wanted,
            confirm=error.error_code in (WebCode.OUTCOME_UNKNOWN, WebCode.NOT_READY),
            status=error.status,
            error=error.message,
        )
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
    query = ReadMerchant(merchant_id.lower())
    merchant = known((await call.context.owners.read(query, call.ids)).merchant)
    return page(
        call,
        "extend_trial.html",
        status=status,
        merchant=merchant,
        wanted=wanted,
        confirm=confirm,
        error=error,
    )


def _wanted(form: dict[str, str]) -> ExtensionForm:
    days, key = form.get("days", ""), form.get("key", "")
    return ExtensionForm(
        int(days) if _DAYS.fullmatch(days) else 0,
        form.get("reason", ""),
        # Of our own making, and the same as long as this form lives.
        key if _KEY.fullmatch(key) else f"ops/{uuid.uuid4()}",
        form.get("note", ""),
    )
