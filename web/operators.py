"""For operators, not for merchants: credits given or taken, and the test clock.

Like all of `/internal`, not for a public proxy. Routed to the owner of the merchant and
written to the journal as every command, with who asked for it as its origin.
"""

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, TypeVar

from aiohttp import web
from msgspec import Meta, Struct

from billing_stream.config.durations import parse_duration
from billing_stream.domain.commands import (
    AdjustCredits,
    Adjusted,
    AdvanceClock,
    Key,
    Note,
    Uuid,
)
from billing_stream.domain.model import Instant
from billing_stream.domain.outcomes import AdjustmentMade, ClockMoved, Rejected, TimedReply
from billing_stream.observability.audit_log import audited
from billing_stream.web.auth import authenticate_operator
from billing_stream.web.billing import expect, known, new_command_id
from billing_stream.web.bodies import NO_CONTROLS, key_of, parse_body
from billing_stream.web.command_requests import OPERATORS, CommandRequest
from billing_stream.web.envelope import ApiError, WebCode, ids_of, name_after_key, respond
from billing_stream.web.queries import ReadMerchant
from billing_stream.web.refusals import Credential
from billing_stream.web.views import ApiView, Context

ADJUSTMENTS_PATH = "/internal/adjustments"
CLOCK_PATH = "/internal/clock"

Reason = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=255,
        pattern=NO_CONTROLS,
        description="why, for operators and other services; it is published and kept, so it "
        "names no person. Merchants never see it",
    ),
]
Forward = Annotated[
    str,
    Meta(pattern=r"^[1-9][0-9]{0,8}(ms|s|m|h|d)\Z", description='by how much, e.g. "14d"'),
]
Granted = TypeVar("Granted", AdjustmentMade, ClockMoved)


class AdjustBody(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /internal/adjustments`. A key is needed, here or in the header."""

    merchant_id: Uuid
    credits: Adjusted
    reason: Reason
    idempotency_key: Key | None = None
    merchant_note: Note | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for an adjustment of nothing."""
        if self.credits == 0:
            raise ValueError("credits must not be 0")


class AdjustedBody(Struct, frozen=True):
    """An adjustment; `balance` is purchased and adjusted credits together, after it."""

    adjustment_id: str
    merchant_id: str
    credits: int
    balance: int


class ClockBody(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /internal/clock`: either `to` or `forward`."""

    merchant_id: Uuid
    to: Instant | None = None
    forward: Forward | None = None


class ClockMovedBody(Struct, frozen=True):
    """The time it is for the merchant."""

    merchant_id: str
    now: Instant


class OperatorView(ApiView):
    """A view for operators."""

    credential = Credential.OPERATOR_TOKEN

    def operator_of(self, request: web.Request) -> str:
        """Who asks. Raises ApiError when he may not."""
        return authenticate_operator(request.headers, *self.context.internal_secrets)

    async def carry_out(
        self,
        request: web.Request,
        operator: str,
        command: AdjustCredits | AdvanceClock,
        kind: type[Granted],
    ) -> tuple[Granted, datetime]:
        """What came of a command, committed, and when. Raises ApiError, also for a refusal."""
        answered = await carry_out_for(self.context, request, operator, command)
        return expect(answered.reply, kind), answered.at


async def carry_out_for(
    context: Context, request: web.Request, operator: str, command: AdjustCredits | AdvanceClock
) -> TimedReply:
    """The reply to an operator's command, committed, and a line of the log that says who asked.

    Raises ApiError, also for a refusal.
    """
    ids = ids_of(request)
    asked = CommandRequest(command, "", ids.correlation_id, OPERATORS + operator)
    about = {"merchant": command.merchant_id}
    if isinstance(command, AdjustCredits):
        about["credits"] = f"{command.credits:+d}"
    action = "adjustment" if isinstance(command, AdjustCredits) else "clock"
    with audited(action, operator=operator, request_id=ids.request_id, **about):
        answered = await context.commands.carry_out(asked, ids)
        if isinstance(answered.reply, Rejected):
            raise ApiError(answered.reply.code, answered.reply.message, at=answered.at)
    return answered


class Adjustments(OperatorView):
    """`/internal/adjustments`"""

    async def post(self, request: web.Request) -> web.Response:
        """Give a merchant credits, or take some away: once per idempotency key, for ever.

        The balance never goes below nothing by it. A refusal leaves the key free.
        """
        operator = self.operator_of(request)
        body = await parse_body(request, AdjustBody)
        key = key_of(request, body.idempotency_key)
        if key is None:
            raise ApiError(
                WebCode.VALIDATION_ERROR,
                "an adjustment needs an idempotency key",
                {"field": "idempotency_key"},
            )
        merchant_id = body.merchant_id.lower()
        name_after_key(request, merchant_id, key)
        command = AdjustCredits(
            merchant_id, body.credits, body.reason, key, new_command_id(), body.merchant_note
        )
        made, at = await self.carry_out(request, operator, command, AdjustmentMade)
        said = AdjustedBody(made.adjustment_id, merchant_id, made.credits, made.balance)
        return respond(request, said, status=HTTPStatus.CREATED, at=at)


class Clock(OperatorView):
    """`/internal/clock`"""

    async def post(self, request: web.Request) -> web.Response:
        """Move one merchant's time forward; what falls due by then happens at once.

        In development and test only; elsewhere there is nothing at this path. A clock never
        goes back, and it is ten years ahead at most.
        """
        operator = self.operator_of(request)
        body = await parse_body(request, ClockBody)
        merchant_id = body.merchant_id.lower()
        to = await self._moment(request, body, merchant_id)
        command = AdvanceClock(merchant_id, to, new_command_id())
        moved, at = await self.carry_out(request, operator, command, ClockMoved)
        return respond(request, ClockMovedBody(merchant_id, moved.now), at=at)

    async def _moment(self, request: web.Request, body: ClockBody, merchant_id: str) -> datetime:
        if (body.to is None) == (body.forward is None):
            raise ApiError(WebCode.VALIDATION_ERROR, "either `to` or `forward` is needed")
        if body.to is not None:
            return body.to
        found = await self.context.owners.read(ReadMerchant(merchant_id), ids_of(request))
        now = known(found.merchant).time(datetime.now(UTC))
        try:
            to: datetime = now + parse_duration(body.forward)
        except OverflowError:
            raise ApiError(WebCode.VALIDATION_ERROR, "`forward` is beyond all time") from None
        return to
