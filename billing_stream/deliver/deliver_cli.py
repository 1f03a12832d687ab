"""`billing-stream deliver`."""

import logging
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from billing_stream.config.background_settings import BackgroundSettings
from billing_stream.config.settings import Settings
from billing_stream.console.help import SETTINGS, help_epilog
from billing_stream.console.options import STANDARD_OUTPUT, Duration, Moment, json_option, whoami
from billing_stream.console.output import say, say_json_lines
from billing_stream.console.tables import table_lines
from billing_stream.deliver import delivery_rounds, endpoints, event_store, service
from billing_stream.deliver.addresses import EndpointError, checked_url
from billing_stream.deliver.delivery import database_of, migrate_webhooks
from billing_stream.deliver.locks import written
from billing_stream.observability.audit_log import audited_command
from billing_stream.projector.projector_cli import run_on_database, run_service
from billing_stream.records import topics as names

logger = logging.getLogger("billing_stream.deliver")

EXIT_WRONG = "wrong usage or settings, or PostgreSQL does not answer"
DONE = {0: "done", 2: EXIT_WRONG}
EVENT_TYPES = tuple(names.event_type(kind) for kind in names.EVENT_TYPES)
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
by_option = click.option("--by", default=whoami, show_default="user@host", help="Who does it.")


class EventType(click.ParamType):
    """A type of billing's events."""

    name = "type"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The type, when there are such events."""
        if value not in EVENT_TYPES:
            self.fail(f"{value!r} is not one of: {', '.join(EVENT_TYPES)}", param, ctx)
        return str(value)


@click.group(
    invoke_without_command=True,
    epilog=help_epilog(
        {
            0: "stopped by a signal",
            2: "wrong settings, topics or tables",
            70: "a fatal error; the log says which. Nothing is lost: start it again",
        },
        "DATABASE_URL=postgresql://billing@db/billing billing-stream deliver",
        "billing-stream deliver endpoints add crm https://crm.example.com/billing",
        "billing-stream deliver redeliver crm --from 2h",
        environment={
            "DATABASE_URL": "PostgreSQL: endpoints and queues",
            "BILLING_DELIVER_PORT": "metrics and readiness (9109)",
            "BILLING_DELIVER_RETRY_FOR": "of failures, then it is disabled (3d)",
            "BILLING_DELIVER_RETENTION": "how long events are kept (30d)",
            "BILLING_WEBHOOKS_ALLOW_PRIVATE": "true: http://, private addresses",
            **SETTINGS,
        },
    ),
)
@click.pass_context
def deliver(context: click.Context) -> None:
    """Deliver billing's events to HTTPS endpoints, as signed webhooks.

    Without a subcommand it runs until SIGTERM or SIGINT. Each merchant's events arrive in order,
    at least once. Of several processes one delivers, the others are on standby. An endpoint that
    fails too long is disabled: the log, the dashboard and evt.billing.endpoint.changed.v1 show it.
    """
    if context.invoked_subcommand is not None:
        return
    run_service(service.run, logger, "process")


@deliver.group(
    "endpoints",
    epilog=help_epilog(
        DONE,
        "billing-stream deliver endpoints add crm https://crm.example.com/billing",
        "billing-stream deliver endpoints list",
        environment=None,
    ),
)
def endpoints_group() -> None:
    """Manage endpoints and their secrets.

    A running `billing-stream deliver` follows within a second.
    """


@endpoints_group.command(
    "add",
    epilog=help_epilog(
        DONE,
        "billing-stream deliver endpoints add crm https://crm.example.com/billing",
        "billing-stream deliver endpoints add crm https://crm.example.com --since 7d",
    ),
)
@click.argument("endpoint_id", metavar="ID")
@click.argument("url")
@click.option(
    "--event",
    "types",
    type=EventType(),
    multiple=True,
    help="Only this type of event; again for more.",
)
@click.option(
    "--since", type=Moment(), help="Events from then (7d ago, 2026-11-28), if kept; else from now."
)
@by_option
def add_endpoint(
    endpoint_id: str, url: str, types: tuple[str, ...], since: datetime | None, by: str
) -> None:
    """Add an endpoint, and print its secret.

    The secret signs its webhooks, and is not shown again: rotate-secret makes another one. ID is
    1 to 64 letters, digits, `.`, `_`, `-`; URL begins with https://.
    """
    if not _ID.fullmatch(endpoint_id):
        raise click.UsageError("ID is 1 to 64 letters, digits, dots, underscores and hyphens")
    settings = BackgroundSettings.from_env()
    checked = checked_url(url, allow_private=settings.webhooks_allow_private)

    async def work() -> str:
        async with _connected(settings) as connection, connection.transaction():
            secret = await endpoints.add(
                connection, endpoint_id, checked, sorted({*types}) or None, since
            )
            if since is not None:
                end = datetime.max.replace(tzinfo=UTC)
                await event_store.queue_times(connection, endpoint_id, since, end)
            return secret

    with audited_command(settings, "add_endpoint", by, endpoint=endpoint_id):
        secret = run_on_database(work())
    say(f"endpoint {endpoint_id} is added. Its secret, which is not shown again:")
    say(secret)


@endpoints_group.command(
    "list",
    epilog=help_epilog(
        {0: "listed", 2: EXIT_WRONG},
        "billing-stream deliver endpoints list",
        "billing-stream deliver endpoints list --json | jq -r .url",
    ),
)
@json_option("A JSON object on each line")
def list_endpoints(json_to: Path | None) -> None:
    """List endpoints: state, queue, last error.

    Secrets are not shown.
    """

    async def work() -> tuple[list[endpoints.Endpoint], dict[str, delivery_rounds.Pending]]:
        async with _connected(settings) as connection:
            return await endpoints.endpoints(connection), await delivery_rounds.pending(connection)

    settings = BackgroundSettings.from_env()
    found, pending = run_on_database(work())
    if json_to is not None:
        say_json_lines((_as_json(one, pending) for one in found), json_to)
    if json_to == STANDARD_OUTPUT:
        return
    rows = [
        (
            one.id,
            one.state,
            f"{pending[one.id].deliveries:,}",
            "all" if one.event_types is None else f"{len(one.event_types)} types",
            one.url,
            _why(one),
        )
        for one in found
    ]
    heads = ("ENDPOINT", "STATE", "QUEUED", "EVENTS", "URL", "WHY")
    for line in table_lines(heads, rows, right=("QUEUED",)):
        say(line)


@endpoints_group.command(
    "disable", epilog=help_epilog(DONE, "billing-stream deliver endpoints disable crm")
)
@click.argument("endpoint_id", metavar="ID")
@by_option
def disable_endpoint(endpoint_id: str, by: str) -> None:
    """Send an endpoint nothing more.

    Its events are kept for BILLING_DELIVER_RETENTION.
    """
    _act("disable_endpoint", endpoint_id, by, endpoints.disable)
    say(f"endpoint {endpoint_id} is disabled")


@endpoints_group.command(
    "enable", epilog=help_epilog(DONE, "billing-stream deliver endpoints enable crm")
)
@click.argument("endpoint_id", metavar="ID")
@by_option
def enable_endpoint(endpoint_id: str, by: str) -> None:
    """Enable an endpoint: send what was kept.

    Queued events are delivered in order, failed ones at once. Also of an endpoint that is enabled:
    its next tries are not waited for.
    """
    _act("enable_endpoint", endpoint_id, by, endpoints.enable)
    say(f"endpoint {endpoint_id} is enabled")


@endpoints_group.command(
    "rotate-secret",
    epilog=help_epilog(DONE, "billing-stream deliver endpoints rotate-secret crm --keep 48h"),
)
@click.argument("endpoint_id", metavar="ID")
@click.option(
    "--keep",
    type=Duration(),
    default="24h",
    show_default=True,
    help="For how long the old one is valid.",
)
@by_option
def rotate_secret(endpoint_id: str, keep: timedelta, by: str) -> None:
    """Print a new secret; keep the old one a while.

    Requests have a signature of each of them for --keep.
    """
    secret = _act("rotate_endpoint_secret", endpoint_id, by, endpoints.rotate_secret, keep)
    say(f"endpoint {endpoint_id} has a new secret, which is not shown again:")
    say(secret)


@endpoints_group.command(
    "remove", epilog=help_epilog(DONE, "billing-stream deliver endpoints remove crm")
)
@click.argument("endpoint_id", metavar="ID")
@by_option
def remove_endpoint(endpoint_id: str, by: str) -> None:
    """Remove an endpoint with its queue."""
    _act("remove_endpoint", endpoint_id, by, endpoints.remove)
    say(f"endpoint {endpoint_id} is removed")


@deliver.command(
    epilog=help_epilog(
        {0: "queued", 1: "an event is not kept (any more)", 2: EXIT_WRONG},
        "billing-stream deliver redeliver crm 5f0c7b2e-8d0a-5b57-a1f0-0d8f3cf3f0c1",
        "billing-stream deliver redeliver crm --from 2h",
        "billing-stream deliver redeliver crm --from 2026-11-28 --until 2026-11-29",
    )
)
@click.argument("endpoint_id", metavar="ID")
@click.argument("event_ids", nargs=-1, metavar="[EVENT_ID]...")
@click.option(
    "--from", "begin", type=Moment(), help="Events from then on: 2h (ago), 2026-11-28T10:00."
)
@click.option("--until", "end", type=Moment(), help="And before then; without, all.")
@by_option
def redeliver(
    endpoint_id: str,
    event_ids: tuple[str, ...],
    begin: datetime | None,
    end: datetime | None,
    by: str,
) -> None:
    """Deliver events again, by id or by time.

    In order per merchant. The endpoint gets them with the same webhook-id. Events are kept for
    BILLING_DELIVER_RETENTION.
    """
    if bool(event_ids) == (begin is not None):
        raise click.UsageError("name event ids, or give --from")
    if begin is not None and end is not None and end <= begin:
        raise click.UsageError("--until is not later than --from")
    settings = BackgroundSettings.from_env()

    async def work() -> tuple[endpoints.Endpoint, int, list[str]]:
        async with _connected(settings) as connection, written(connection):
            known = {one.id: one for one in await endpoints.endpoints(connection)}
            if endpoint_id not in known:
                raise EndpointError(f"there is no endpoint {endpoint_id}")
            one = known[endpoint_id]
            if begin is not None:
                until = end or datetime.max.replace(tzinfo=UTC)
                queued = await event_store.queue_times(connection, endpoint_id, begin, until)
                return one, queued, []
            queued = await event_store.queue_ids(connection, endpoint_id, event_ids)
            return one, queued, await event_store.unknown_ids(connection, event_ids)

    with audited_command(settings, "redeliver_webhooks", by, endpoint=endpoint_id) as said:
        endpoint, queued, unknown = run_on_database(work())
        said["queued"] = queued
    verb = "event is" if queued == 1 else "events are"
    waits = ", which is disabled: nothing is sent" if endpoint.state == "disabled" else ""
    say(f"{queued} {verb} queued for {endpoint_id}{waits}")
    for event_id in unknown:
        say(f"event {event_id} is not kept", err=True)
    if unknown:
        sys.exit(1)


@deliver.command(
    "skip-missing",
    epilog=help_epilog(
        {0: "done, or nothing was missing", 2: EXIT_WRONG},
        "billing-stream deliver skip-missing 7c1f3a52-0000-4000-8000-000000000001",
    ),
)
@click.argument("merchant_id")
@by_option
def skip_missing(merchant_id: str, by: str) -> None:
    """Skip an event of a merchant that is lost.

    Later ones wait for it; they are delivered. /ready and billing_deliver_missing_events report
    such merchants. First make sure that the event is lost: it would not be delivered any more.
    """
    settings = BackgroundSettings.from_env()

    async def work() -> int | None:
        async with _connected(settings) as connection, written(connection):
            return await event_store.pass_missing(connection, merchant_id)

    with audited_command(settings, "skip_missing_event", by, merchant=merchant_id):
        first = run_on_database(work())
    if first is None:
        say(f"nothing is missing of merchant {merchant_id}")
    else:
        say(f"events of merchant {merchant_id} from number {first} on are queued")


@asynccontextmanager
async def _connected(settings: Settings) -> AsyncIterator[Any]:
    """A connection to tables of this version; its transactions are on disk when they end."""
    database = database_of(settings)
    await migrate_webhooks(database)
    async with database.connected(writable=True) as connection:
        await connection.execute("SET synchronous_commit = on")
        yield connection


def _act(action: str, endpoint_id: str, by: str, what: Any, *arguments: Any) -> Any:
    settings = BackgroundSettings.from_env()

    async def work() -> Any:
        async with _connected(settings) as connection:
            return await what(connection, endpoint_id, *arguments)

    with audited_command(settings, action, by, endpoint=endpoint_id):
        return run_on_database(work())


def _why(one: endpoints.Endpoint) -> str:
    """Why it is disabled, or what it last answered."""
    causes = dict.fromkeys((one.disabled_because, one.last_error))
    return "; ".join(cause for cause in causes if cause)


def _as_json(
    one: endpoints.Endpoint, pending: dict[str, delivery_rounds.Pending]
) -> dict[str, Any]:
    shown = ("id", "url", "event_types", "begins_at", "disabled_at", "failing_since", "last_error")
    found = {name: getattr(one, name) for name in shown}
    return {
        **found,
        "state": one.state,
        "disabled_because": one.disabled_because,
        "secrets": len(one.secrets),
        "queued": pending[one.id].deliveries,
    }
