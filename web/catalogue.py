"""The catalogue for operators: set a version, read the packs on sale, and the history."""

from http import HTTPStatus
from typing import Annotated

import msgspec
from aiokafka.errors import KafkaError
from msgspec import Meta, Struct

from billing_stream.config.catalogue_file import CatalogueError
from billing_stream.domain.commands import Key
from billing_stream.domain.model import Instant
from billing_stream.domain.outcomes import ErrorCode
from billing_stream.domain.policy import PACKS
from billing_stream.errors import BillingError
from billing_stream.kafka.start_deadline import StartDeadline
from billing_stream.observability.audit_log import audited
from billing_stream.ops.catalogue.catalogue_log import SetResult
from billing_stream.ops.catalogue.course import (
    CatalogueNow,
    VersionEntry,
    VersionSet,
    as_asked,
    course_of,
)
from billing_stream.records.examples import ENDS_AT, VERSION
from billing_stream.records.invalid_fields import Rule
from billing_stream.records.operator_commands import PackAsked, SetCatalogue
from billing_stream.records.schemas import encode
from billing_stream.tables.catalogue_versions import (
    EFFECTIVE_TIME_PASSED,
    KEY_REUSED,
    TOO_MANY_SCHEDULED,
)
from billing_stream.web.auth import OPERATOR
from billing_stream.web.envelope import ApiError, Given, invalid, outcome_unknown
from billing_stream.web.operation import INTERNAL, About, Answer, Call, operation
from billing_stream.web.operators import InternalReason, without_key
from billing_stream.web.pagination import Page, cursor_after

CATALOGUE_PATH = "/internal/catalogue"
VERSIONS_PATH = "/internal/catalogue/versions"
# In cursors.
LIST = "versions"
# Of the time that a request has: to be answered before it ends.
MARGIN_SECONDS = 2.0
_COURSE = course_of([VERSION], PACKS, ENDS_AT)
(_ENTRY,) = _COURSE.versions


class CatalogueBody(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /internal/catalogue`. A key is needed, here or in the header."""

    packs: Annotated[
        dict[str, PackAsked],
        Meta(min_length=1, description="all that are sold from then on; others are retired"),
    ]
    reason: InternalReason
    effective_at: Annotated[
        Instant | None, Meta(description="from when on; without it, at once")
    ] = None
    idempotency_key: Key | None = None


@operation(
    "POST",
    CATALOGUE_PATH,
    OPERATOR,
    listeners=INTERNAL,
    status=HTTPStatus.CREATED,
    about=About(
        id="setCatalogue",
        tag="operators",
        summary="Replace all packs and prices, at once or at a time",
        example=VersionSet(*(getattr(_ENTRY, name) for name in VersionSet.__struct_fields__)),
        body_examples={
            "at once": CatalogueBody(_ENTRY.packs, "summer prices", None, "summer-prices"),
            "later": CatalogueBody(_ENTRY.packs, "summer prices", ENDS_AT, "summer-prices"),
        },
    ),
)
async def set_catalogue(
    call: Call[str], body: CatalogueBody, key: str | None
) -> Answer[VersionSet]:
    """Replace all packs and prices, once per idempotency key, without a restart.

    What was opened before keeps its terms. Whatever a platform cannot charge is refused.
    """
    if key is None:
        raise without_key("a version")
    context, dashboard = call.context, call.context.dashboard
    try:
        packs = as_asked(context.sellable({"packs": msgspec.to_builtins(body.packs)}))
    except CatalogueError as error:
        raise invalid("packs", "; ".join(str(error).splitlines())) from None
    command = SetCatalogue(packs, call.who, body.reason, body.effective_at, key)
    if len(encode(command)) > context.max_record_bytes:
        most = context.max_record_bytes
        raise invalid("packs", f"`packs` has more than {most} bytes", Rule.LENGTH)
    at = body.effective_at
    if at is not None and at < context.now():
        # That of a version which was set before may be over.
        dashboard.forget_catalogue()
        if all(one.idempotency_key != key for one in await dashboard.versions()):
            raise invalid("effective_at", "`effective_at` is in the past", Rule.RANGE)
    about = {"operator": call.who, "request_id": call.ids.request_id}
    with audited("set_catalogue", **about) as said:
        try:
            found = await dashboard.catalogue_log.set(
                command,
                seconds_max=max(1.0, context.request_seconds - MARGIN_SECONDS),
                deadline=StartDeadline(context.request_seconds),
            )
        except (KafkaError, BillingError):
            raise outcome_unknown("Kafka does not answer") from None
        said["record"] = found.ref
        version = _set(found)
    dashboard.forget_catalogue()
    return Answer(version, Given(version.set_at, found.repeated))


@operation(
    "GET",
    CATALOGUE_PATH,
    OPERATOR,
    listeners=INTERNAL,
    about=About(
        id="getCatalogue",
        tag="operators",
        summary="The packs on sale, and the versions that come",
        example=_COURSE.now,
    ),
)
async def get_catalogue(call: Call[str]) -> Answer[CatalogueNow]:
    """The packs on sale, the version in force and those that come; who set them, and why."""
    return Answer((await call.context.dashboard.catalogue()).now)


@operation(
    "GET",
    VERSIONS_PATH,
    OPERATOR,
    listeners=INTERNAL,
    about=About(
        id="listCatalogueVersions",
        tag="operators",
        summary="The versions of the catalogue",
        example=_COURSE.versions,
    ),
)
async def list_versions(call: Call[str], page: Page) -> Answer[list[VersionEntry]]:
    """A page of the versions, newest first: what each changed, who set it, and why."""
    found = (await call.context.dashboard.catalogue()).versions
    before, skipped = page.after(LIST, "[0-9]{1,9}"), page.skip
    if before is not None:
        skipped = sum(1 for one in found if one.version >= int(before))
    shown = found[skipped : skipped + page.limit]
    following = cursor_after(LIST, str(shown[-1].version)) if shown else ""
    return Answer(shown, pagination=page.of(len(found), skipped, following))


OPERATIONS = (set_catalogue, get_catalogue, list_versions)


def _set(found: SetResult) -> VersionSet:
    """The version. Raises ApiError where none was made."""
    if found.rejected is not None:
        code, _, text = found.rejected.partition(": ")
        if code == KEY_REUSED:
            raise ApiError(ErrorCode.IDEMPOTENCY_KEY_REUSED, text)
        of_time = code in (EFFECTIVE_TIME_PASSED, TOO_MANY_SCHEDULED)
        field = "effective_at" if of_time else "packs"
        raise invalid(field, text)
    one = found.version
    if one is None:
        raise outcome_unknown("no worker has decided it yet")
    packs = as_asked(one.packs)
    return VersionSet(one.version, one.effective_at, one.set_at, one.by, one.reason, packs)
