"""A change of a merchant by a form of its page: asked for, confirmed, and then carried out once."""

import re
import uuid
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Protocol, TypeVar

from aiohttp import web

from billing_stream.domain.commands import AdjustCredits, ExtendTrial, SetShop
from billing_stream.domain.outcomes import AdjustmentMade, ShopSet, TrialExtensionMade
from billing_stream.web.billing import known
from billing_stream.web.envelope import ApiError, WebCode
from billing_stream.web.operation import Call
from billing_stream.web.operators import carry_out_for
from billing_stream.web.ops.ops_views import REASON_MAX, page, wrong_reason
from billing_stream.web.ops.session import Session
from billing_stream.web.owners import ReadMerchant

Made = TypeVar("Made", AdjustmentMade, TrialExtensionMade, ShopSet)
_KEY = re.compile(r"ops/[0-9a-f-]{36}", re.ASCII)


class Show(Protocol):
    """Shows the form; or with `confirm` what was asked for, and the button."""

    async def __call__(
        self, *, confirm: bool = False, status: int = HTTPStatus.OK, error: str | None = None
    ) -> web.Response: ...


def key_of(form: Mapping[str, str]) -> str:
    """The idempotency key of a form: made here, and the same as long as the form lives."""
    key = form.get("key", "")
    return key if _KEY.fullmatch(key) else f"ops/{uuid.uuid4()}"


def wrong_words(note: str, reason: str, why: str) -> str | None:
    """The problem with the note and the reason of a form, for people; None if they are right."""
    if note and wrong_reason(note, ""):
        return f"The note for the merchant has at most {REASON_MAX} characters, no controls."
    return wrong_reason(reason, why)


async def carry_out_form(
    call: Call[Session],
    form: Mapping[str, str],
    wrong: str | None,
    command: Callable[[], AdjustCredits | ExtendTrial | SetShop],
    kind: type[Made],
    show: Show,
) -> Made | web.Response:
    """What was made of a confirmed form; or the page to show instead: once, however often sent.

    `command` makes the command, of a form with nothing wrong.
    """
    if wrong is not None:
        return await show(status=HTTPStatus.UNPROCESSABLE_ENTITY, error=wrong)
    if form.get("confirmed") != "yes":
        return await show(confirm=True)
    try:
        made, _ = await carry_out_for(call, call.who.operator, command(), kind)
    except ApiError as error:
        again = error.error_code in (WebCode.OUTCOME_UNKNOWN, WebCode.NOT_READY)
        return await show(confirm=again, status=error.status, error=error.message)
    return made


async def merchant_form(
    call: Call[Session], merchant_id: str, template: str, *, status: int, **values: Any
) -> web.Response:
    """A form about a merchant, which the template has with these values."""
    query = ReadMerchant(merchant_id.lower())
    merchant = known((await call.context.owners.read(query, call.ids)).merchant)
    return page(call, template, status=status, merchant=merchant, **values)
