"""What keeps the projection from being made."""

import ssl

import asyncpg

from billing_stream.errors import BillingError

DATABASE_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    # asyncpg is out of step when the server is killed between two messages.
    asyncpg.InternalClientError,
)
"""PostgreSQL is away, slow, restarting, or cut us off: to be tried again, for ever."""

REFUSED = (
    ssl.SSLCertVerificationError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.UndefinedObjectError,
)
"""What no waiting mends: a wrong password, no such database, no right to make tables, a server
that is not the one that we trust."""

UNFIT = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    # A value that is too long for its index.
    asyncpg.ProgramLimitExceededError,
)
"""A value of a record that its column does not take."""


class ProjectionError(BillingError):
    """The projection cannot be made; the text says what to do."""


class PositionsMoved(Exception):
    """What is stored is not where we began: others wrote, or a rebuild was swapped in."""
