"""The actions on a dead letter: redrive it, with another value or its own, or discard it."""

from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiokafka.errors import KafkaError
from msgspec import Struct

from billing_stream.errors import DeadLettersError
from billing_stream.observability.audit_log import audited
from billing_stream.ops.dead_letters import ActionResult, DeadLetterEntry, State
from billing_stream.web.envelope import ApiError, WebCode
from billing_stream.web.operation import OPS, Call, operation
from billing_stream.web.ops.dashboard import ActionPending, why_not
from billing_stream.web.ops.letter_pages import (
    LETTER_PATH,
    LETTERS_PATH,
    editable_value,
    find_letter,
    letter_detail,
)
from billing_stream.web.ops.ops_views import SESSION, form_of, page, see, wrong_reason
from billing_stream.web.ops.session import Session

REDRIVE_PATH = LETTER_PATH + "/redrive"
EDIT_PATH = LETTER_PATH + "/edit"
DISCARD_PATH = LETTER_PATH + "/discard"

Act = Callable[[DeadLetterEntry], Awaitable[ActionResult]]


class ActionForm(Struct, frozen=True):
    """A form as it was sent; no `value`: the letter's own."""

    kind: str
    reason: str = ""
    value: str | None = None

    @property
    def raw(self) -> bytes | None:
        """The value as it is sent."""
        return None if self.value is None else self.value.encode()


@operation("GET", REDRIVE_PATH, SESSION, listeners=OPS)
async def show_redrive(call: Call[Session], letter: str) -> web.Response:
    """What a redrive would do, and the button."""
    return await _form(call, letter, ActionForm("redrive"))


@operation("POST", REDRIVE_PATH, SESSION, listeners=OPS, codes=(WebCode.VALIDATION_ERROR,))
async def redrive(call: Call[Session], letter: str) -> web.Response:
    """Redrive it: once, however often the form is sent."""
    wanted = ActionForm("redrive", (await form_of(call)).get("reason", ""))
    dashboard, operator = call.context.dashboard, call.who.operator
    return await _carry_out(
        call, letter, wanted, lambda one: dashboard.redrive(one, operator, wanted.reason)
    )


@operation("GET", EDIT_PATH, SESSION, listeners=OPS)
async def show_edit(call: Call[Session], letter: str) -> web.Response:
    """The value of the record, to be corrected."""
    return await _form(call, letter, ActionForm("edit"))


@operation("POST", EDIT_PATH, SESSION, listeners=OPS, codes=(WebCode.VALIDATION_ERROR,))
async def edit(call: Call[Session], letter: str) -> web.Response:
    """First what the new value would do, to be confirmed; then redrive it, once."""
    form = await form_of(call)
    wanted = ActionForm("edit", form.get("reason", ""), form.get("value", ""))
    if form.get("confirmed") != "yes":
        return await _form(call, letter, wanted, confirm=True)
    dashboard, operator = call.context.dashboard, call.who.operator
    return await _carry_out(
        call,
        letter,
        wanted,
        lambda one: dashboard.redrive(one, operator, wanted.reason, wanted.raw),
    )


@operation("GET", DISCARD_PATH, SESSION, listeners=OPS)
async def show_discard(call: Call[Session], letter: str) -> web.Response:
    """What a discard means, and the button."""
    return await _form(call, letter, ActionForm("discard"))


@operation("POST", DISCARD_PATH, SESSION, listeners=OPS, codes=(WebCode.VALIDATION_ERROR,))
async def discard(call: Call[Session], letter: str) -> web.Response:
    """Discard it: once, however often the form is sent."""
    wanted = ActionForm("discard", (await form_of(call)).get("reason", ""))
    dashboard, operator = call.context.dashboard, call.who.operator
    return await _carry_out(
        call, letter, wanted, lambda one: dashboard.discard(one, operator, wanted.reason)
    )


async def _carry_out(
    call: Call[Session], letter: str, wanted: ActionForm, act: Act
) -> web.Response:
    # A new value was checked before: it is confirmed again, and not written again.
    show = partial(_form, call, letter, wanted, confirm=wanted.value is not None)
    wrong = wrong_reason(wanted.reason, "it is kept with the letter")
    if wrong is not None:
        return await show(HTTPStatus.UNPROCESSABLE_ENTITY, wrong)
    found = await find_letter(call.context.dashboard.letter_cluster, letter)
    action = "discard" if wanted.kind == "discard" else "redrive"
    operator, request_id = call.who.operator, call.ids.request_id
    about: dict[str, Any] = {"letter": letter}
    if wanted.value is not None:
        about["edited"] = True
    try:
        with audited(action, operator=operator, request_id=request_id, **about) as said:
            outcome = await act(found.letter)
            if outcome.refused is not None:
                said["outcome"] = "refused"
    except ActionPending:
        error = "Kafka has not confirmed it yet. Look at the dead letter again in a moment."
        return await show(HTTPStatus.GATEWAY_TIMEOUT, error)
    except (DeadLettersError, KafkaError) as failed:
        return await show(HTTPStatus.SERVICE_UNAVAILABLE, why_not(failed))
    if outcome.refused is not None:
        error = f"Nothing was done: it {outcome.refused}."
        return await show(HTTPStatus.CONFLICT, error)
    done = "discarded" if wanted.kind == "discard" else "redriven"
    return see(f"{LETTERS_PATH}/{letter}", done=done)


async def _form(
    call: Call[Session],
    letter: str,
    wanted: ActionForm,
    status: int = HTTPStatus.OK,
    error: str | None = None,
    *,
    confirm: bool = False,
) -> web.Response:
    dashboard = call.context.dashboard
    whole = await letter_detail(dashboard.letter_cluster, letter)
    refused, what = None, ""
    # A value is rehearsed once there is one.
    rehearsed = wanted.kind == "redrive" or wanted.value is not None
    if whole.found.state is State.OPEN and rehearsed:
        try:
            outcome = await dashboard.rehearse(whole.found.letter, wanted.raw)
            refused, what = outcome.refused, outcome.what
        except (DeadLettersError, KafkaError) as failed:
            # The form that says what went wrong before is worth more than this.
            if error is None:
                raise ApiError(WebCode.NOT_READY, why_not(failed)) from None
    value = editable_value(whole.found.letter.record) if wanted.value is None else wanted.value
    return page(
        call,
        "letter_action.html",
        status=HTTPStatus.UNPROCESSABLE_ENTITY if confirm and refused else status,
        whole=whole,
        kind=wanted.kind,
        confirm=confirm and refused is None,
        refused=refused,
        what=what,
        topic=dashboard.letter_cluster.commands,
        error=error,
        reason=wanted.reason,
        value=value,
    )
