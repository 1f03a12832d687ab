"""Dead letters: the newest of them, one of them whole, and sending it again."""

import asyncio
from http import HTTPStatus

from aiohttp import web
from aiokafka.errors import KafkaError
from msgspec import Struct

from billing_stream.errors import DeadLettersError
from billing_stream.observability.audit_log import audited
from billing_stream.ops.dead_letters import DeadLetterEntry, DeadLetterHistory, State, find_one
from billing_stream.ops.dead_letters.dead_letter_history import find_next
from billing_stream.ops.dead_letters.showing import record_lines, value_bytes
from billing_stream.plain_text import clean_line
from billing_stream.web.envelope import ApiError, WebCode, ids_of
from billing_stream.web.ops.dashboard import ActionPending, why_not
from billing_stream.web.ops.letters import DeadLetterSummary
from billing_stream.web.ops.ops_views import OpsView, page_of, see, wrong_reason
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


class LettersPage(OpsView):
    """`/ops/dead-letters`"""

    async def get(self, request: web.Request) -> web.Response:
        """The newest, by what became of them and why they are dead."""
        session = self.session(request)
        told = await self.dashboard.letters()
        state, reason = request.query.get("state", "open"), request.query.get("reason", "")
        page = page_of(request, LIMIT)
        seen = told.seen.letters if told.seen else []
        wanted = [one for one in seen if _matches(one, state, reason)]
        return self.page(
            request,
            "letters.html",
            session,
            told=told,
            state=state if state in _STATES else "all",
            states=_STATES,
            reason=reason,
            letters=wanted[page.skip : page.skip + page.limit],
            pages=page.of(len(wanted)),
        )


class LetterView(OpsView):
    """A page about one letter."""

    async def find(self, name: str) -> DeadLetterHistory:
        """The letter. Raises ApiError: NOT_FOUND, or NOT_READY when it cannot be read."""
        try:
            async with asyncio.timeout(FIND_SECONDS):
                return await find_one(self.dashboard.letter_cluster, name)
        except TimeoutError:
            raise ApiError(WebCode.NOT_READY, "Kafka has not answered in time") from None
        except DeadLettersError as error:
            raise ApiError(WebCode.NOT_FOUND, str(error)) from None
        except KafkaError as error:
            raise ApiError(WebCode.NOT_READY, why_not(error)) from None

    async def whole(self, name: str) -> DeadLetterDetail:
        """All of a letter. Raises ApiError as `find` does."""
        found = await self.find(name)
        record = found.letter.record
        return DeadLetterDetail(
            found=found,
            name=name,
            reason=clean_line(record.reason),
            key=_text(record.key),
            headers=[(clean_line(name), _text(held) or "") for name, held in record.headers],
            value=list(record_lines(record)),
            size=value_bytes(record),
            following=await find_next(self.dashboard.letter_cluster, found),
        )


class LetterPage(LetterView):
    """`/ops/dead-letters/{letter}`"""

    async def get(self, request: web.Request, letter: str) -> web.Response:
        """All of it, why it is dead, and what was done with it."""
        session = self.session(request)
        return self.page(
            request,
            "letter.html",
            session,
            whole=await self.whole(letter),
            done=request.query.get("done"),
        )


class Redrive(LetterView):
    """`/ops/dead-letters/{letter}/redrive`"""

    async def get(self, request: web.Request, letter: str) -> web.Response:
        """What sending it again would do, and the button."""
        session = self.session(request)
        return await self._form(request, session, letter)

    async def post(self, request: web.Request, letter: str) -> web.Response:
        """Send it again: once, however often the form is sent."""
        session = self.session(request)
        form = await self.form_of(request, session)
        reason = form.get("reason", "")
        wrong = wrong_reason(reason, "it is kept with the letter")
        if wrong is not None:
            status = HTTPStatus.UNPROCESSABLE_ENTITY
            return await self._form(request, session, letter, status, wrong, reason)
        found = await self.find(letter)
        try:
            request_id = ids_of(request).request_id
            with audited(
                "redrive", operator=session.operator, request_id=request_id, letter=letter
            ) as said:
                outcome = await self.dashboard.redrive(found.letter, session.operator, reason)
                if outcome.refused is not None:
                    said["outcome"] = "refused"
        except ActionPending:
            error = "Kafka has not confirmed it yet. Look at the letter again in a moment."
            return await self._form(
                request, session, letter, HTTPStatus.GATEWAY_TIMEOUT, error, reason
            )
        except (DeadLettersError, KafkaError) as failed:
            error, status = why_not(failed), HTTPStatus.SERVICE_UNAVAILABLE
            return await self._form(request, session, letter, status, error, reason)
        if outcome.refused is not None:
            error = f"Nothing was done: it {outcome.refused}."
            return await self._form(request, session, letter, HTTPStatus.CONFLICT, error, reason)
        return see(f"{LETTERS_PATH}/{letter}", done="redriven")

    async def _form(
        self,
        request: web.Request,
        session: Session,
        letter: str,
        status: int = HTTPStatus.OK,
        error: str | None = None,
        reason: str = "",
    ) -> web.Response:
        whole = await self.whole(letter)
        refused, what = None, ""
        if whole.found.state is State.OPEN:
            try:
                outcome = await self.dashboard.rehearse(whole.found.letter)
                refused, what = outcome.refused, outcome.what
            except (DeadLettersError, KafkaError) as failed:
                # The form that says what went wrong before is worth more than this.
                if error is None:
                    raise ApiError(WebCode.NOT_READY, why_not(failed)) from None
        return self.page(
            request,
            "redrive.html",
            session,
            status=status,
            whole=whole,
            refused=refused,
            what=what,
            topic=self.dashboard.letter_cluster.commands,
            error=error,
            reason=reason,
        )


def _matches(letter: DeadLetterSummary, state: str, reason: str) -> bool:
    return (state not in list(State) or letter.state == state) and reason in ("", letter.kind)


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else clean_line(raw.decode("utf-8", "replace"))
