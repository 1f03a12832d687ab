"""Dead letters: the newest of them, and one of them whole."""

import asyncio
from contextlib import suppress

from aiohttp import web
from aiokafka.errors import KafkaError
from msgspec import UNSET, Struct

from billing_stream.errors import DeadLettersError
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
from billing_stream.records.dead_letters import DeadLetter
from billing_stream.records.invalid_fields import readable
from billing_stream.web.envelope import ApiError, WebCode
from billing_stream.web.operation import OPS, Call, operation
from billing_stream.web.ops.dashboard import why_not
from billing_stream.web.ops.letters import DeadLetterSummary
from billing_stream.web.ops.ops_views import SESSION, page, page_of
from billing_stream.web.ops.session import Session

LETTERS_PATH = "/ops/dead-letters"
LETTER_PATH = "/ops/dead-letters/{letter:[0-9]{1,4}@[0-9]{1,18}}"
LIMIT = 25
FIND_SECONDS = 5.0
# What a form shows to be corrected; larger ones are for `billing-stream dlq`.
EDITABLE_BYTES_MAX = 64 << 10
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
    """All of it, why it is dead, what was done with it, and what can be done."""
    dashboard = call.context.dashboard
    whole, refused = await letter_detail(dashboard.letter_cluster, letter), None
    if whole.found.state is State.OPEN:
        # Where it cannot be rehearsed, the form says why.
        with suppress(DeadLettersError, KafkaError):
            refused = (await dashboard.rehearse(whole.found.letter)).refused
    done = call.request.query.get("done")
    return page(call, "letter.html", whole=whole, refused=refused, done=done)


async def find_letter(cluster: Cluster, name: str) -> DeadLetterHistory:
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


async def letter_detail(cluster: Cluster, name: str) -> DeadLetterDetail:
    """All of a letter. Raises ApiError as `find_letter` does."""
    found = await find_letter(cluster, name)
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


def editable_value(record: DeadLetter) -> str | None:
    """The value of the record as text for a form; None where a form cannot show all of it."""
    value = record.value or b""
    if record.truncated is not UNSET or len(value) > EDITABLE_BYTES_MAX:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def _matches(letter: DeadLetterSummary, state: str, reason: str) -> bool:
    return (state not in list(State) or letter.state == state) and reason in ("", letter.kind)


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else clean_line(raw.decode("utf-8", "replace"))
