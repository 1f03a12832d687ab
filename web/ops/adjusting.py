"""Credits given or taken on a merchant's page: asked for, confirmed, and then once."""

import re
import uuid
from http import HTTPStatus

from aiohttp import web
from msgspec import Struct

from billing_stream.domain.commands import AdjustCredits
from billing_stream.domain.outcomes import AdjustmentMade, ErrorCode
from billing_stream.web.billing import known
from billing_stream.web.commands import new_command_id
from billing_stream.web.envelope import ApiError, WebCode
from billing_stream.web.operation import OPS, Call, operation
from billing_stream.web.operators import carry_out_for
from billing_stream.web.ops.merchant_pages import MERCHANT_PATH, MERCHANTS_PATH
from billing_stream.web.ops.ops_views import REASON_MAX, SESSION, form_of, page, see, wrong_reason
from billing_stream.web.ops.session import Session
from billing_stream.web.owners import ReadMerchant

ADJUST_PATH = MERCHANT_PATH + "/adjust"
CREDITS_MAX = 1_000_000
_CREDITS = re.compile(r"[+-]?[0-9]{1,7}", re.ASCII)
_KEY = re.compile(r"ops/[0-9a-f-]{36}", re.ASCII)


class AdjustmentForm(Struct, frozen=True):
    """An adjustment as a form has it; `credits` is None when they are none."""

    credits: int | None
    reason: str
    key: str
    note: str

    def wrong(self) -> str | None:
        """What is wrong with it, for people."""
        if not self.credits or abs(self.credits) > CREDITS_MAX:
            return f"Credits are a whole number up to {CREDITS_MAX:,}, up or down, and not 0."
        if self.note and wrong_reason(self.note, ""):
            return f"The note for the merchant has at most {REASON_MAX} characters, no controls."
        return wrong_reason(self.reason, "it is published and kept")


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
    wrong = wanted.wrong()
    if wrong is not None:
        status = HTTPStatus.UNPROCESSABLE_ENTITY
        return await _show(call, merchant_id, wanted, status=status, error=wrong)
    if form.get("confirmed") != "yes":
        return await _show(call, merchant_id, wanted, confirm=True)
    command = AdjustCredits(
        merchant_id.lower(),
        wanted.credits or 0,
        wanted.reason,
        wanted.key,
        new_command_id(),
        wanted.note or None,
    )
    try:
        made, _ = await carry_out_for(call, call.who.operator, command, AdjustmentMade)
    except ApiError as error:
        return await _show(
            call,
            merchant_id,
            wanted,
            confirm=error.error_code in (WebCode.OUTCOME_UNKNOWN, WebCode.NOT_READY),
            status=error.status,
            error=error.message,
        )
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
    query = ReadMerchant(merchant_id.lower())
    merchant = known((await call.context.owners.read(query, call.ids)).merchant)
    return page(
        call,
        "adjust_confirm.html" if confirm else "adjust.html",
        status=status,
        merchant=merchant,
        wanted=wanted,
        after=merchant.balance + (wanted.credits or 0),
        error=error,
    )


def _wanted(form: dict[str, str]) -> AdjustmentForm:
    credits, key = form.get("credits", ""), form.get("key", "")
    return AdjustmentForm(
        int(credits) if _CREDITS.fullmatch(credits) else None,
        form.get("reason", ""),
        # Of our own making, and the same as long as this form lives.
        key if _KEY.fullmatch(key) else f"ops/{uuid.uuid4()}",
        form.get("note", ""),
    )
