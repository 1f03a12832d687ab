"""Credits given or taken on a merchant's page: asked for, confirmed, and then once."""

import re
import uuid
from http import HTTPStatus

from aiohttp import web
from msgspec import Struct

from billing_stream.domain.commands import AdjustCredits
from billing_stream.domain.model import Merchant
from billing_stream.domain.outcomes import AdjustmentMade
from billing_stream.web.billing import expect, known, new_command_id
from billing_stream.web.envelope import ApiError, WebCode, ids_of
from billing_stream.web.operators import carry_out_for
from billing_stream.web.ops.merchant_pages import MERCHANT_PATH, MERCHANTS_PATH
from billing_stream.web.ops.ops_views import REASON_MAX, OpsView, see, wrong_reason
from billing_stream.web.ops.session import Session
from billing_stream.web.queries import ReadMerchant

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


class Adjust(OpsView):
    """`/ops/merchants/{merchant_id}/adjust`"""

    async def get(self, request: web.Request, merchant_id: str) -> web.Response:
        """The form."""
        session = self.session(request)
        merchant = await self._merchant(request, merchant_id)
        return self._show(request, session, merchant, AdjustmentForm(None, "", "", ""))

    async def post(self, request: web.Request, merchant_id: str) -> web.Response:
        """First what it will be, to be confirmed; then do it: once per form, however often sent."""
        session = self.session(request)
        form = await self.form_of(request, session)
        wanted = _wanted(form)
        wrong = wanted.wrong()
        if wrong is not None or form.get("confirmed") != "yes":
            merchant = await self._merchant(request, merchant_id)
            if wrong is not None:
                status = HTTPStatus.UNPROCESSABLE_ENTITY
                return self._show(request, session, merchant, wanted, status=status, error=wrong)
            return self._show(request, session, merchant, wanted, confirm=True)
        try:
            made = await self._carry_out(request, session, merchant_id.lower(), wanted)
        except ApiError as error:
            merchant = await self._merchant(request, merchant_id)
            unknown = error.error_code in (WebCode.OUTCOME_UNKNOWN, WebCode.NOT_READY)
            return self._show(
                request,
                session,
                merchant,
                wanted,
                confirm=unknown,
                status=error.code,
                error=error.message,
            )
        return see(
            f"{MERCHANTS_PATH}/{merchant_id.lower()}", done="adjusted", credits=str(made.credits)
        )

    async def _carry_out(
        self, request: web.Request, session: Session, merchant_id: str, wanted: AdjustmentForm
    ) -> AdjustmentMade:
        command = AdjustCredits(
            merchant_id,
            wanted.credits or 0,
            wanted.reason,
            wanted.key,
            new_command_id(),
            wanted.note or None,
        )
        answered = await carry_out_for(self.context, request, session.operator, command)
        return expect(answered.reply, AdjustmentMade)

    async def _merchant(self, request: web.Request, merchant_id: str) -> Merchant:
        query = ReadMerchant(merchant_id.lower())
        return known((await self.context.owners.read(query, ids_of(request))).merchant)

    def _show(
        self,
        request: web.Request,
        session: Session,
        merchant: Merchant,
        wanted: AdjustmentForm,
        *,
        confirm: bool = False,
        status: int = HTTPStatus.OK,
        error: str | None = None,
    ) -> web.Response:
        """The form, or with `confirm` what it comes to and the button."""
        return self.page(
            request,
            "adjust_confirm.html" if confirm else "adjust.html",
            session,
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
