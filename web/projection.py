"""What happened to a merchant, as the projection in PostgreSQL has it; billing does not need it.

A page costs one query over a merchant's own events. The database may be slow or away: then
no request waits long, and at most a few connections wait at all.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import asyncpg

from billing_stream.config.settings import Settings
from billing_stream.web.envelope import ApiError, WebCode
from billing_stream.web.pagination import Page

CONNECTIONS_MAX = 4
IDLE_SECONDS = 60.0
CONNECT_SECONDS = 2.0
ACQUIRE_SECONDS = 1.0
# Of the transaction that it runs in.
STATEMENT_TIMEOUT = "SELECT set_config('statement_timeout', $1, true)"
STATEMENT_SECONDS = 2.0
# After a failure the next ones are told so at once, for so long.
AWAY_SECONDS = 2.0
RETRY_AFTER_SECONDS = 5

# One row at least, so that the total is known of a page beyond the end, too.
_PAGE = """
SELECT counted.total, counted.newer, page.*
FROM (SELECT count(*) AS total, count(*) FILTER (WHERE sequence >= $5::bigint) AS newer
      FROM billing_events WHERE merchant_id = $1 AND ($4 OR credits_delta <> 0)) counted
LEFT JOIN (
    SELECT * FROM (
        SELECT event_id, sequence, event_type, at, credits_delta, balance_after, cause,
            correlation_id, place, data,
            row_number() OVER (ORDER BY sequence) = sequence AS complete
        FROM billing_history WHERE merchant_id = $1
    ) numbered
    WHERE ($4 OR credits_delta <> 0) AND ($5::bigint IS NULL OR sequence < $5)
    ORDER BY sequence DESC LIMIT $2 OFFSET $3
) page ON true
ORDER BY page.sequence DESC
"""

_AWAY = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)


class HistoryPage(NamedTuple):
    """Rows of `billing_history`, how many there are in all, and how many are newer.

    `complete` of a row is false where events before it are missing.
    """

    rows: list[Any]
    total: int
    skipped: int


class Projection:
    """Reads the projection; connects when it is first asked. `url` is a secret, None: nothing."""

    def __init__(self, url: str | None, schema: str) -> None:
        self._url = url
        self._schema = schema
        self._pool: Any = None
        self._opening = asyncio.Lock()
        self._away_until = 0.0

    @classmethod
    def of(cls, settings: Settings) -> "Projection":
        """That of the settings, with connections of its own."""
        url = settings.database_url
        return cls(url.get_secret_value() if url else None, settings.projection_schema)

    @property
    def there(self) -> bool:
        """Whether there is one by the settings; it may be away all the same."""
        return self._url is not None

    async def page(
        self, merchant_id: str, page: Page, *, credits_only: bool = False, before: int | None = None
    ) -> HistoryPage:
        """A page of what happened to a merchant, newest first; `before` a sequence, where given.

        Raises ApiError (NOT_READY) when there is no projection or it does not answer.
        """
        asked = (page.limit, page.skip, not credits_only, before)
        rows = await self.rows(_PAGE, merchant_id, *asked)
        shown = [row for row in rows if row["sequence"] is not None]
        skipped = page.skip if before is None else rows[0]["newer"]
        return HistoryPage(shown, rows[0]["total"], skipped)

    async def rows(
        self, query: str, *arguments: Any, seconds: float = STATEMENT_SECONDS
    ) -> Sequence[Any]:
        """The rows of a query that reads, within `seconds`. Raises ApiError as `page`."""
        if self._url is None:
            raise ProjectionUnreadable("there is no projection here: DATABASE_URL is not set")
        if time.monotonic() < self._away_until:
            raise ProjectionUnreadable("the projection does not answer")
        try:
            return await self._fetch(self._url, query, arguments, seconds)
        except asyncpg.UndefinedTableError:
            raise ProjectionUnreadable("there is no projection yet: no projector has run") from None
        except asyncpg.UndefinedColumnError:
            raise ProjectionUnreadable(
                "the projection is of another release: run the projector of this one"
            ) from None
        except asyncpg.QueryCanceledError:
            # It answers: others need not be refused for one question that is too large.
            raise ProjectionUnreadable(
                f"the projection does not answer within {seconds:g} s"
            ) from None
        except (*_AWAY, ValueError):
            # No more of the error: its text may have the address, and so the password, in it.
            self._away_until = time.monotonic() + AWAY_SECONDS
            raise ProjectionUnreadable("the projection does not answer") from None

    def close(self) -> None:
        """Let the connections go, with queries that run."""
        if self._pool is not None:
            self._pool.terminate()

    async def _fetch(
        self, url: str, query: str, arguments: Sequence[Any], seconds: float
    ) -> Sequence[Any]:
        pool = await self._opened(url)
        connection = await pool.acquire(timeout=CONNECT_SECONDS + ACQUIRE_SECONDS)
        rows: Sequence[Any]
        try:
            if seconds == STATEMENT_SECONDS:
                rows = await connection.fetch(query, *arguments)
                return rows
            async with connection.transaction():
                milliseconds = str(int(seconds * 1000))
                await connection.execute(STATEMENT_TIMEOUT, milliseconds)
                rows = await connection.fetch(query, *arguments, timeout=seconds + 0.5)
            return rows
        finally:
            await pool.release(connection)

    async def _opened(self, url: str) -> Any:
        async with self._opening:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    url,
                    min_size=0,
                    max_size=CONNECTIONS_MAX,
                    max_inactive_connection_lifetime=IDLE_SECONDS,
                    timeout=CONNECT_SECONDS,
                    command_timeout=STATEMENT_SECONDS + 0.5,
                    server_settings={
                        "application_name": "billing-stream history",
                        "search_path": self._schema,
                        "default_transaction_read_only": "on",
                        "statement_timeout": str(int(STATEMENT_SECONDS * 1000)),
                    },
                )
            return self._pool


class ProjectionUnreadable(ApiError):
    """The refusal (NOT_READY) where the projection cannot be read; `why` is for people."""

    def __init__(self, why: str) -> None:
        super().__init__(
            WebCode.NOT_READY,
            f"the history cannot be read now: {why}. Billing itself continues",
            retry_after=RETRY_AFTER_SECONDS,
        )
        self.why = why
