"""Lists as CSV: streamed page by page, and without anything that a spreadsheet would compute."""

import asyncio
import csv
import io
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from http import HTTPStatus
from typing import Any

from aiohttp import web

from billing_stream.observability.audit_log import audited
from billing_stream.web.envelope import REQUEST_ID, ApiError, not_ready
from billing_stream.web.operation import Call
from billing_stream.web.ops.lists import Listed
from billing_stream.web.ops.rendering import HEADERS
from billing_stream.web.ops.session import Session
from billing_stream.web.pagination import Page

logger = logging.getLogger(__name__)

ROWS_AT_ONCE = 5_000
SECONDS_MAX = 600.0
# What begins a formula in one spreadsheet or another.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")

List = Callable[[Page], Awaitable[Listed]]


class ExportLimit:
    """One export at a time: each reads all of a list."""

    def __init__(self) -> None:
        self._busy = False

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Be the one. Raises ApiError (NOT_READY) while another is."""
        if self._busy:
            raise not_ready("another export runs at this worker: try again when it has ended")
        self._busy = True
        try:
            yield
        finally:
            self._busy = False


async def export(
    call: Call[Session], name: str, columns: Sequence[str], ask: List
) -> web.StreamResponse:
    """The whole list as `name`.csv. Raises ApiError where its beginning cannot be read.

    Where a later part cannot be read the connection is broken off, so that no half file passes
    for a whole one.
    """
    about: dict[str, Any] = {"list": name, "operator": call.who.operator}
    with (
        call.context.dashboard.exports.enter(),
        audited("export", request_id=call.ids.request_id, **about) as said,
    ):
        first = await ask(Page(limit=ROWS_AT_ONCE))
        response = _response(call, name)
        await response.prepare(call.request)
        said["rows"] = written = 0
        try:
            async with asyncio.timeout(SECONDS_MAX):
                await response.write(_lines([columns]))
                async for rows in _parts(first, ask):
                    await response.write(_lines(map(_cells(columns), rows)))
                    said["rows"] = written = written + len(rows)
                await response.write_eof()
        except (ApiError, TimeoutError, ConnectionError) as error:
            said["outcome"] = "broken off"
            logger.warning("an export of %s was broken off: %s", name, error)
            if call.request.transport is not None:
                call.request.transport.abort()
        return response


async def _parts(first: Listed, ask: List) -> AsyncIterator[Sequence[Any]]:
    listed = first
    while True:
        yield listed.rows
        if listed.following is None:
            return
        listed = await ask(Page(limit=ROWS_AT_ONCE, cursor=listed.following))


def _response(call: Call[Session], name: str) -> web.StreamResponse:
    response = web.StreamResponse(status=HTTPStatus.OK)
    response.headers.update(HEADERS)
    response.headers[REQUEST_ID] = call.ids.request_id
    response.headers["Content-Type"] = "text/csv; charset=utf-8; header=present"
    response.headers["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    return response


def _cells(columns: Sequence[str]) -> Callable[[Mapping[str, Any]], list[Any]]:
    return lambda row: [cell(row[column]) for column in columns]


def cell(value: Any) -> Any:
    """A value for the file: times in ISO 8601, and text that is never a formula.

    >>> cell("=1+1"), cell(-5), cell(None), cell(Decimal("9.99")), cell("anna.example")
    ("'=1+1", '-5', '', '9.99', 'anna.example')
    """
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bool | int | Decimal):
        return str(value)
    text = str(value)
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def _lines(rows: Any) -> bytes:
    written = io.StringIO()
    csv.writer(written).writerows(rows)
    return written.getvalue().encode()
