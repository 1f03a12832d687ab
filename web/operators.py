"""For operators, not for merchants: credits, ends of trials, shops, and the test clock.

Like all of `/internal`, not for a public proxy. Routed to the owner of the merchant and
written to the journal as every command, with who asked for it as its origin.
"""

from datetime import UTC, datetime
from http import HTTPStatus
from types import MappingProxyType
from typing import Annotated, Any, TypeVar

from msgspec import Meta, Struct

from billing_stream.config.durations import parse_duration
from billing_stream.domain.commands import (
    AdjustCredits,
    Adjusted,
    AdvanceClock,
    Days,
    ExtendTrial,
    Key,
    Note,
    SetShop,
    Uuid,
)
from billing_stream.domain.model import Instant
from billing_stream.domain.outcomes import (
    AdjustmentMade,
    ClockMoved,
    ErrorCode,
    ShopSet,
    TrialExtensionMade,
)
from billing_stream.observability.audit_log import audited
from billing_stream.records.examples import ADJUSTMENT_ID, DOMAIN, ENDS_AT, MERCHANT_ID
from billing_stream.records.invalid_fields import Rule
from billing_stream.web.auth import OPERATOR
from billing_stream.web.billing import known
from billing_stream.web.commands import (
    OPERATORS,
    CommandRequest,
    OperatorsCommand,
    new_command_id,
)
from billing_stream.web.envelope import ApiError, Given, WebCode, invalid
from billing_stream.web.operation import INTERNAL, About, Answer, Call, operation
from billing_stream.web.owners import ReadMerchant

ADJUSTMENTS_PATH = "/internal/adjustments"
EXTENSIONS_PATH = "/internal/trial-extensions"
SHOPS_PATH = "/internal/shops"
CLOCK_PATH = "/internal/clock"


def _reason(description: str) -> Meta:
    return Meta(
        min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+\Z", description=description
    )


PublishedReason = Annotated[
    str,
    _reason(
        "why, for operators and other services; it is published and kept, so it names no person. "
        "Merchants never see it"
    ),
]
InternalReason = Annotated[
    str,
    _reason(
        "why, for operators; it is kept and is in no event, so it names no person. Merchants "
        "never see it"
    ),
]
NameOfPlatform = Annotated[
    str, Meta(description="1 to 64 letters of ASCII, digits, dots, hyphens and underscores")
]
NameOfHost = Annotated[str, Meta(description="a host name, or an address with one")]
Forward = Annotated[
    str, Meta(pattern=r"^[1-9][0-9]{0,8}(ms|s|m|h|d)\Z", description='by how much, e.g. "14d"')
]
_ACTIONS = MappingProxyType(
    {
        AdjustCredits: "adjustment",
        ExtendTrial: "trial extension",
        SetShop: "shop",
        AdvanceClock: "clock",
    }
)
Granted = TypeVar("Granted", AdjustmentMade, TrialExtensionMade, ShopSet, ClockMoved)


class AdjustBody(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /internal/adjustments`. A key is needed, here or in the header."""

    merchant_id: Uuid
    credits: Adjusted
    reason: PublishedReason
    idempotency_key: Key | None = None
    merchant_note: Note | None = None


class AdjustedBody(Struct, frozen=True):
    """An adjustment; `balance` is purchased and adjusted credits together, after it."""

    adjustment_id: Uuid
    merchant_id: Uuid
    credits: int
    balance: int


class ExtendBody(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /internal/trial-extensions`: either `ends_at` or `days`.

    `days` count from the later of the trial's end and now. A key is needed, here or in the header.
    """

    merchant_id: Uuid
    reason: InternalReason
    ends_at: Instant | None = None
    days: Days | None = None
    idempotency_key: Key | None = None
    merchant_note: Note | None = None


class ExtendedBody(Struct, frozen=True):
    """When the trial ends by the extension."""

    ends_at: Instant


class ShopBody(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /internal/shops`. A key is needed, here or in the header."""

    merchant_id: Uuid
    platform: NameOfPlatform
    domain: NameOfHost
    reason: InternalReason
    idempotency_key: Key | None = None


class ShopSetBody(Struct, frozen=True):
    """The shop, its names in the form in which it is found."""

    platform: str
    domain: str


class ClockBody(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /internal/clock`: either `to` or `forward`."""

    merchant_id: Uuid
    to: Instant | None = None
    forward: Forward | None = None


class ClockMovedBody(Struct, frozen=True):
    """The time it is for the merchant."""

    merchant_id: Uuid
    now: Instant


@operation(
    "POST",
    ADJUSTMENTS_PATH,
    OPERATOR,
    listeners=INTERNAL,
    codes=(ErrorCode.MERCHANT_NOT_FOUND, ErrorCode.INSUFFICIENT_CREDITS),
    status=HTTPStatus.CREATED,
    about=About(
        id="adjustCredits",
        tag="operators",
        summary="Give a merchant credits, or take some away",
        example=AdjustedBody(ADJUSTMENT_ID, MERCHANT_ID, -20, 80),
        body_examples={
            "down": AdjustBody(MERCHANT_ID, -20, "ticket 4711", "ticket-4711", "Bought by mistake")
        },
    ),
)
async def adjust_credits(
    call: Call[str], body: AdjustBody, key: str | None
) -> Answer[AdjustedBody]:
    """Give a merchant credits, or take some away: once per idempotency key, permanently.

    The balance cannot become negative by it. A refusal leaves the key free.
    """
    if body.credits == 0:
        raise invalid("credits", "`credits` must not be 0", Rule.RANGE)
    if key is None:
        raise without_key("an adjustment")
    merchant_id = body.merchant_id.lower()
    command = AdjustCredits(
        merchant_id, body.credits, body.reason, key, new_command_id(), body.merchant_note
    )
    made, given = await carry_out_for(call, call.who, command, AdjustmentMade)
    return Answer(AdjustedBody(made.adjustment_id, merchant_id, made.credits, made.balance), given)


@operation(
    "POST",
    EXTENSIONS_PATH,
    OPERATOR,
    listeners=INTERNAL,
    codes=(
        ErrorCode.MERCHANT_NOT_FOUND,
        ErrorCode.TRIAL_NOT_EXTENDABLE,
        ErrorCode.INVALID_TRIAL_END,
    ),
    status=HTTPStatus.CREATED,
    about=About(
        id="extendTrial",
        tag="operators",
        summary="Extend a merchant's trial",
        example=ExtendedBody(ENDS_AT),
        body_examples={
            "by": ExtendBody(MERCHANT_ID, "ticket 4713", None, 7, "ticket-4713", "Take your time"),
            "to": ExtendBody(MERCHANT_ID, "ticket 4713", ENDS_AT, None, "ticket-4713"),
        },
    ),
)
async def extend_trial(call: Call[str], body: ExtendBody, key: str | None) -> Answer[ExtendedBody]:
    """Move the end of a trial, or begin a new period of one that has ended; once per key.

    A key is valid permanently; a refusal leaves it free. The end never comes nearer, and is ten
    years away at most.
    """
    _require_one(body, "ends_at", "days")
    if key is None:
        raise without_key("an extension")
    command = ExtendTrial(
        body.merchant_id.lower(),
        body.reason,
        key,
        body.ends_at,
        body.days,
        body.merchant_note,
        new_command_id(),
    )
    made, given = await carry_out_for(call, call.who, command, TrialExtensionMade)
    return Answer(ExtendedBody(made.ends_at), given)


@operation(
    "POST",
    SHOPS_PATH,
    OPERATOR,
    listeners=INTERNAL,
    codes=(ErrorCode.MERCHANT_NOT_FOUND, ErrorCode.INVALID_SHOP),
    status=HTTPStatus.CREATED,
    about=About(
        id="setShop",
        tag="operators",
        summary="Set a merchant's shop",
        example=ShopSetBody("shopify", DOMAIN),
        body_examples={
            "shop": ShopBody(MERCHANT_ID, "shopify", DOMAIN, "ticket 4714", "ticket-4714")
        },
    ),
)
async def set_shop(call: Call[str], body: ShopBody, key: str | None) -> Answer[ShopSetBody]:
    """Register a shop for a merchant, whichever merchant had it; the one before is a former one.

    A refusal leaves its key free.
    """
    if key is None:
        raise without_key("a change of the shop")
    command = SetShop(
        body.merchant_id.lower(), body.platform, body.domain, body.reason, key, new_command_id()
    )
    made, given = await carry_out_for(call, call.who, command, ShopSet)
    return Answer(ShopSetBody(made.platform, made.domain), given)


@operation(
    "POST",
    CLOCK_PATH,
    OPERATOR,
    listeners=INTERNAL,
    codes=(ErrorCode.MERCHANT_NOT_FOUND, WebCode.NOT_FOUND, ErrorCode.CLOCK_REFUSED),
    about=About(
        id="moveClock",
        tag="operators",
        summary="Move one merchant's time forward (development and test)",
        example=ClockMovedBody(MERCHANT_ID, ENDS_AT),
        body_examples={
            "by": ClockBody(MERCHANT_ID, forward="14d"),
            "to": ClockBody(MERCHANT_ID, ENDS_AT),
        },
    ),
)
async def move_clock(call: Call[str], body: ClockBody) -> Answer[ClockMovedBody]:
    """Move one merchant's time forward; what falls due by then happens at once.

    In development and test only; elsewhere there is nothing at this path. A clock never
    goes back, and it is ten years ahead at most.
    """
    merchant_id = body.merchant_id.lower()
    command = AdvanceClock(merchant_id, await _moment(call, body, merchant_id), new_command_id())
    try:
        moved, given = await carry_out_for(call, call.who, command, ClockMoved)
    except ApiError as error:
        if error.error_code is not ErrorCode.CLOCK_REFUSED or body.forward is None:
            raise
        why = "`forward` must lead to a time within ten years from now"
        raise invalid("forward", why, Rule.RANGE, error.error_code) from None
    return Answer(ClockMovedBody(merchant_id, moved.now), given)


OPERATIONS = (adjust_credits, extend_trial, set_shop)
# Nobody's time is moved in production.
TEST_OPERATIONS = (move_clock,)


def without_key(what: str) -> ApiError:
    """The refusal where a key is needed, here or in the header."""
    return invalid("idempotency_key", f"{what} needs an idempotency key", Rule.REQUIRED)


def _require_one(body: Struct, first: str, second: str) -> None:
    """Raise ApiError (VALIDATION_ERROR) unless the body has exactly one of two fields."""
    given = [name for name in (first, second) if getattr(body, name) is not None]
    if len(given) != 1:
        rule = Rule.CONFLICT if given else Rule.REQUIRED
        raise invalid(first, f"give either `{first}` or `{second}`", rule)


async def _moment(call: Call[str], body: ClockBody, merchant_id: str) -> datetime:
    _require_one(body, "to", "forward")
    if body.to is not None:
        return body.to
    found = await call.context.owners.read(ReadMerchant(merchant_id), call.ids)
    now = known(found.merchant, f"merchant {merchant_id}").time(datetime.now(UTC))
    try:
        to: datetime = now + parse_duration(body.forward)
    except (OverflowError, ValueError):
        raise invalid("forward", "`forward` is beyond all time", Rule.RANGE) from None
    return to


async def carry_out_for(
    call: Call[Any],
    operator: str,
    command: OperatorsCommand,
    kind: type[Granted],
) -> tuple[Granted, Given]:
    """As `Commands.carry_out`, with a line of the log that says who asked."""
    ids = call.ids
    asked = CommandRequest(command, "", ids.correlation_id, OPERATORS + operator)
    about = {"merchant": command.merchant_id}
    if isinstance(command, AdjustCredits):
        about["credits"] = f"{command.credits:+d}"
    with audited(_ACTIONS[type(command)], operator=operator, request_id=ids.request_id, **about):
        return await call.context.commands.carry_out(asked, ids, kind)
