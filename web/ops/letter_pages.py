"""Dead letters: the newest of them, one of them whole, and sending it again."""

import asyncio
from http import HTTPStatus

from aiohttp import web
from aiokafka.errors import KafkaError
from msgspec import Struct

from billing_stream.errors import DeadLettersError
from billing_stream.observability.audit_log import audited
from billing_stream.ops.dead_letters import (
    Cluster,
    DeadLetterEntry,
    DeadLetterHistory,
    State,
    find_one,
)
from billing_stream.ops.dead_letters.dead_letter_history import find_next
from billing_stream.ops.dead_letters.showing import record_lines, value_bytes
from billing_stream.plain_text import clean_line
from billing_stream.records.invalid_fields import readable
from billing_stream.web.envelope import ApiError, WebCode
from billing_stream.web.operation import OPS, Call, operation
from billing_stream.web.ops.dashboard import ActionPending, why_not
from billing_stream.web.ops.letters import DeadLetterSummary
from billing_stream.web.ops.ops_views import SESSION, form_of, page, page_of, see, wrong_reason
from billing_stream.web.ops.session import Session

LETTERS_PATH = "/ops/dead-letters"
LETTER_PATH = "/ops/dead-letters/{letter:[0-9]{1,4}@[0-9]{1,18}}"
REDRIVE_PATH = LETTER_PATH + "/redrive"
LIMIT = 25
FIND_SECONDS = 5.0
_STATES = ("open", "redriven", "discarded", "all")


class DeadLetterDetail(Struct, frozen=True):
    """A letter as its page shows it; texts of others have nothing in them that hides."""

    found: DeadLetterHistory
    name: str
    reason: str
    key: str | None
    headers: list[tuple[str, str]]
    value: list[str]
    size: int | None
    following: list[DeadLetterEntry]


@operation("GET", LETTERS_PATH, SESSION, listeners=OPS, codes=(WebCode.VALIDATION_ERROR,))
async def letters(call: Call[Session]) -> web.Response:
    """The newest, by what became of them and why they are dead."""
    told = await call.context.dashboard.letters()
    query = call.request.query
    state, reason = query.get("state", "open"), query.get("reason", "")
    shown = page_of(call, LIMIT)
    seen = told.seen.letters if told.seen else []
    wanted = [one for one in seen if _matches(one, state, reason)]
    return page(
        call,
        "letters.html",
        told=told,
        state=state if state in _STATES else "all",
        states=_STATES,
        reason=reason,
        letters=wanted[shown.skip : shown.skip + shown.limit],
        pages=shown.of(len(wanted)),
    )


@operation("GET", LETTER_PATH, SESSION, listeners=OPS)
async def show_letter(call: Call[Session], letter: str) -> web.Response:
    """All of it, why it is dead, and what was done with it."""
    whole = await _whole(call.context.dashboard.letter_cluster, letter)
    return page(call, "letter.html", whole=whole, done=call.request.query.get("done"))


@operation("GET", REDRIVE_PATH, SESSION, listeners=OPS)
async def show_redrive(call: Call[Session], letter: str) -> web.Response:
    """What sending it again would do, and the button."""
    return await _form(call, letter)


@operation("POST", REDRIVE_PATH, SESSION, listeners=OPS, codes=(WebCode.VALIDATION_ERROR,))
async def redrive(call: Call[Session], letter: str) -> web.Response:
    """Send it again: once, however often the form is sent."""
    form = await form_of(call)
    reason = form.get("reason", "")
    wrong = wrong_reason(reason, "it is kept with the letter")
    if wrong is not None:
        return await _form(call, letter, HTTPStatus.UNPROCESSABLE_ENTITY, wrong, reason)
    dashboard, operator = call.context.dashboard, call.who.operator
    found = await _find(dashboard.letter_cluster, letter)
    try:
        with audited(
            "redrive", operator=operator, request_id=call.ids.request_id, letter=letter
        ) as said:
            outcome = await dashboard.redrive(found.letter, operator, reason)
            if outcome.refused is not None:
                said["outcome"] = "refused"
    except ActionPending:
        error = "Kafka has not confirmed it yet. Look at the letter again in a moment."
        return await _form(call, letter, HTTPStatus.GATEWAY_TIMEOUT, error, reason)
    except (DeadLettersError, KafkaError) as failed:
        status = HTTPStatus.SERVICE_UNAVAILABLE
        return await _form(call, letter, status, why_not(failed), reason)
    if outcome.refused is not None:
        error = f"Nothing was done: it {outcome.refused}."
        return await _form(call, letter, HTTPStatus.CONFLICT, error, reason)
    return see(f"{LETTERS_PATH}/{letter}", done="redriven")


async def _form(
    call: Call[Session],
    letter: str,
    status: int = HTTPStatus.OK,
    error: str | None = None,
    reason: str = "",
) -> web.Response:
    dashboard = call.context.dashboard
    whole = await _whole(dashboard.letter_cluster, letter)
    refused, what = None, ""
    if whole.found.state is State.OPEN:
        try:
            outcome = await dashboard.rehearse(whole.found.letter)
            refused, what = outcome.refused, outcome.what
        except (DeadLettersError, KafkaError) as failed:
            # The form that says what went wrong before is worth more than this.
            if error is None:
                raise ApiError(WebCode.NOT_READY, why_not(failed)) from None
    return page(
        call,
        "redrive.html",
        status=status,
        whole=whole,
        refused=refused,
        what=what,
        topic=dashboard.letter_cluster.commands,
        error=error,
        reason=reason,
    )


async def _find(cluster: Cluster, name: str) -> DeadLetterHistory:
    """The letter. Raises ApiError: NOT_FOUND, or NOT_READY when it cannot be read."""
    try:
        async with asyncio.timeout(FIND_SECONDS):
            return await find_one(cluster, name)
    except TimeoutError:
        raise ApiError(WebCode.NOT_READY, "Kafka has not answered in time") from None
    except DeadLettersError as error:
        raise ApiError(WebCode.NOT_FOUND, str(error)) from None
    except KafkaError as error:
        raise ApiError(WebCode.NOT_READY, why_not(error)) from None


async def _whole(cluster: Cluster, name: str) -> DeadLetterDetail:
    """All of a letter. Raises ApiError as `_find` does."""
    found = await _find(cluster, name)
    record = found.letter.record
    return DeadLetterDetail(
        found=found,
        name=name,
        reason=clean_line(readable(record.reason)),
        key=_text(record.key),
        headers=[(clean_line(name), _text(held) or "") for name, held in record.headers],
        value=list(record_lines(record)),
        size=value_bytes(record),
        following=await find_next(cluster, found),
    )


def _matches(letter: DeadLetterSummary, state: str, reason: str) -> bool:
    return (state not in list(State) or letter.state == state) and reason in ("", letter.kind)


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else clean_line(raw.decode("utf-8", "replace"))
