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
"""PostgreSQL is away, slow, restarting, or closed the connection: to be retried without end."""

AT_ONCE = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.LockNotAvailableError)
"""A transaction that gave way to another one: the same one is tried again, on its connection."""

REFUSED = (
    ssl.SSLCertVerificationError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.UndefinedObjectError,
)
"""A permanent failure: a wrong password, no such database, no right to make tables, a server
that is not the one that we trust."""

UNFIT = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    # A value that is too long for its index.
    asyncpg.ProgramLimitExceededError,
    # A trigger that an operator added refuses the row.
    asyncpg.RaiseError,
)
"""A value of a record that its column does not take."""

_READ_ONLY = (
    "is read-only: a standby, or a failover is under way. List all servers in DATABASE_URL, or "
    "make this one writable"
)
_DAMAGED = (
    "has other tables than this program made: repair what was changed, or run `billing-stream "
    "projector rebuild`"
)
_CAUSES: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    ((asyncpg.ReadOnlySQLTransactionError, asyncpg.TargetServerAttributeNotMatched), _READ_ONLY),
    ((asyncpg.DiskFullError,), "has no space left: free some, or enlarge its disk"),
    ((asyncpg.TooManyConnectionsError,), "has no free connection: raise max_connections"),
    ((asyncpg.InsufficientResourcesError,), "lacks memory or another resource"),
    ((asyncpg.InsufficientPrivilegeError,), "denies a right to the user in DATABASE_URL: grant it"),
    (
        (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError),
        "does not accept the user, password or database in DATABASE_URL",
    ),
    (
        (
            asyncpg.UndefinedTableError,
            asyncpg.UndefinedColumnError,
            asyncpg.UndefinedFunctionError,
            asyncpg.DatatypeMismatchError,
            asyncpg.InvalidColumnReferenceError,
            asyncpg.InvalidSchemaNameError,
            asyncpg.WrongObjectTypeError,
        ),
        _DAMAGED,
    ),
    (AT_ONCE, "is busy: other transactions hold locks on the projection's tables"),
    (
        (asyncpg.DataCorruptedError, asyncpg.IndexCorruptedError),
        "has damaged data: restore it, then run `billing-stream projector rebuild`",
    ),
)


def cause_of(error: BaseException) -> str:
    """The trouble of PostgreSQL, and what to do where waiting alone does not help."""
    for kinds, text in _CAUSES:
        if isinstance(error, kinds):
            return text
    return "is away"


class ProjectionError(BillingError):
    """The projection cannot be made; the text says what to do."""


class PositionsMoved(Exception):
    """The stored positions moved: another one wrote, or a rebuild was swapped in."""
