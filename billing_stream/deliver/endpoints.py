"""Endpoints: who gets which events, at which address, signed with which secret."""

import base64
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import asyncpg
from msgspec import Struct

from billing_stream.deliver.addresses import EndpointError
from billing_stream.deliver.endpoint_events import note_change
from billing_stream.deliver.locks import written
from billing_stream.records.endpoint_changes import EndpointState

ENDPOINTS_MAX = 64
SECRET_BYTES = 32
# Of Standard Webhooks.
SECRET_PREFIX = "whsec_"
DISABLED_BY_OPERATOR = "by an operator"

_COLUMNS = """id, url, event_types, secret, begins_at, disabled_at, disabled_because,
    failing_since, last_error,
    CASE WHEN old_secret_until > now() THEN old_secret END AS old_secret"""
_LIST = f"SELECT {_COLUMNS} FROM webhook_endpoints ORDER BY id"
_ADD = """
INSERT INTO webhook_endpoints (id, url, event_types, begins_at, secret)
VALUES ($1, $2, $3, coalesce($4, now()), $5)
"""
_DISABLE = """
UPDATE webhook_endpoints SET disabled_at = now(), disabled_because = $2
WHERE id = $1 AND disabled_at IS NULL
"""
_DISABLED_AT = "SELECT disabled_at FROM webhook_endpoints WHERE id = $1"
_ENABLE = """
UPDATE webhook_endpoints SET disabled_at = NULL, disabled_because = NULL, failing_since = NULL,
    last_error = NULL
WHERE id = $1
"""
_DUE_NOW = """
UPDATE webhook_queues SET due_at = now(), attempts = 0, failing_since = NULL
WHERE endpoint_id = $1
"""
_ROTATE = """
UPDATE webhook_endpoints SET secret = $2, old_secret = secret, old_secret_until = now() + $3
WHERE id = $1
"""
_REMOVE = "DELETE FROM webhook_endpoints WHERE id = $1"


class Endpoint(Struct, frozen=True, kw_only=True):
    """One endpoint. `event_types`: None for all. `old_secret` is valid as well as `secret`.

    `begins_at`: of earlier events it gets none. `failing_since`: without a success since then.
    """

    id: str
    url: str
    event_types: list[str] | None
    secret: str
    begins_at: datetime
    old_secret: str | None = None
    disabled_at: datetime | None = None
    disabled_because: str | None = None
    failing_since: datetime | None = None
    last_error: str | None = None

    @property
    def secrets(self) -> tuple[str, ...]:
        """What a request is signed with: the present secret first."""
        return (self.secret,) if self.old_secret is None else (self.secret, self.old_secret)

    @property
    def state(self) -> str:
        """As it is listed: `enabled`, `failing` (enabled, and without a success) or `disabled`."""
        if self.disabled_at is not None:
            return "disabled"
        return "failing" if self.failing_since is not None else "enabled"


def new_secret() -> str:
    """A secret as Standard Webhooks has it: `whsec_` and base64."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


async def endpoints(connection: Any) -> list[Endpoint]:
    """All endpoints, by id."""
    return [Endpoint(**dict(row)) for row in await connection.fetch(_LIST)]


async def add(
    connection: Any,
    endpoint_id: str,
    url: str,
    event_types: Sequence[str] | None,
    begins_at: datetime | None = None,
) -> str:
    """Add an endpoint for events from `begins_at` (None: from now); its secret.

    Raises EndpointError when there is one of this id, or ENDPOINTS_MAX of them.
    """
    secret = new_secret()
    async with written(connection):
        if await connection.fetchval("SELECT count(*) FROM webhook_endpoints") >= ENDPOINTS_MAX:
            raise EndpointError(f"there are {ENDPOINTS_MAX} endpoints, which is the limit")
        try:
            await connection.execute(_ADD, endpoint_id, url, event_types, begins_at, secret)
        except asyncpg.UniqueViolationError:
            raise EndpointError(f"there is an endpoint {endpoint_id} already") from None
        await note_change(connection, [endpoint_id], EndpointState.ENABLED)
    return secret


async def disable(connection: Any, endpoint_id: str, because: str = DISABLED_BY_OPERATOR) -> None:
    """Send nothing more to it; its events are kept. Raises EndpointError."""
    async with written(connection):
        await _one(connection, endpoint_id, _DISABLE, because, unless="is disabled already")
        await note_change(connection, [endpoint_id], EndpointState.DISABLED)


async def enable(connection: Any, endpoint_id: str) -> None:
    """Deliver its queue at once, and retry from the beginning. Raises EndpointError."""
    async with written(connection):
        disabled_at = await connection.fetchval(_DISABLED_AT, endpoint_id)
        await _one(connection, endpoint_id, _ENABLE)
        if disabled_at is not None:
            await note_change(connection, [endpoint_id], EndpointState.ENABLED)
        await connection.execute(_DUE_NOW, endpoint_id)


async def rotate_secret(connection: Any, endpoint_id: str, keep: timedelta) -> str:
    """A new secret; requests are signed with the old one too for `keep`. Raises EndpointError."""
    secret = new_secret()
    async with written(connection):
        await _one(connection, endpoint_id, _ROTATE, secret, keep)
    return secret


async def remove(connection: Any, endpoint_id: str) -> None:
    """Remove an endpoint and its queue. Raises EndpointError."""
    async with written(connection):
        await note_change(connection, [endpoint_id], EndpointState.REMOVED)
        await _one(connection, endpoint_id, _REMOVE)


async def _one(
    connection: Any, endpoint_id: str, statement: str, *arguments: Any, unless: str = ""
) -> None:
    done = await connection.execute(statement, endpoint_id, *arguments)
    if done.endswith(" 0"):
        known = await connection.fetchval(
            "SELECT EXISTS (SELECT 1 FROM webhook_endpoints WHERE id = $1)", endpoint_id
        )
        raise EndpointError(
            f"endpoint {endpoint_id} {unless}" if known else f"there is no endpoint {endpoint_id}"
        )
