"""The projection in PostgreSQL against the tables of the log."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import asyncpg

from billing_stream.audit.verify.facts import History
from billing_stream.audit.verify.log_records import micros
from billing_stream.audit.verify.log_source import VerifyError
from billing_stream.audit.verify.verify_report import Report
from billing_stream.records import topics as names

NONE = "no projection"
_FETCH = 2_000

MERCHANT = {
    "trial_available": True,
    "trial_started_at": None,
    "trial_ends_at": None,
    "total_credits_purchased": 0,
    "last_purchase_at": None,
    "created_at": None,
    "updated_at": None,
}
PURCHASE = {
    "merchant_id": None,
    "credits": None,
    "amount": None,
    "status": None,
    "platform": None,
    "platform_charge_id": None,
    "created_at": None,
    "completed_at": None,
    "expires_at": None,
}
# What never changes: all that can be compared while the projection follows behind.
FIXED = ("merchant_id", "credits", "amount", "platform", "created_at", "expires_at")


async def check_projection(
    history: History, report: Report, database_url: str | None, only: str | None
) -> None:
    """Compare the columns that the contract names. Raises VerifyError when it cannot read."""
    if database_url is None:
        report.checks["projection"].note = f"{NONE}: DATABASE_URL is not set"
        return
    async with _reading(database_url) as connection:
        for table in (names.BILLING_RECORDS, names.CREDIT_PURCHASES):
            if await connection.fetchval("SELECT to_regclass($1)", table) is None:
                report.checks["projection"].note = f"{NONE}: there is no table {table}"
                return
        await _merchants(connection, history, report, only)
        await _purchases(connection, history, report, only)


async def _merchants(connection: Any, history: History, report: Report, only: str | None) -> None:
    missing = {f.merchant for f in history.merchants.values() if f.row and "created_at" in f.row}
    async for found in _rows(connection, names.BILLING_RECORDS, only):
        merchant = str(found["merchant_id"])
        missing.discard(merchant)
        row = history.merchants[merchant].row if merchant in history.merchants else None
        report.count("projection")
        if row is None:
            if not history.allow_lag:
                report.fault("projection", "a merchant that the log has not", merchant=merchant)
            continue
        if history.allow_lag and _plain("updated_at", found.get("updated_at")) != _plain(
            "updated_at", row.get("updated_at")
        ):
            continue
        for what in _odd(found, row, MERCHANT):
            report.fault("projection", f"billing_records: {what}", merchant=merchant)
    if not history.allow_lag:
        for merchant in missing:
            report.fault("projection", "billing_records: the row is missing", merchant=merchant)


async def _purchases(connection: Any, history: History, report: Report, only: str | None) -> None:
    rows = {p: row for f in history.merchants.values() for p, row in f.purchases.items()}
    missing = set(rows)
    columns = {name: PURCHASE[name] for name in (FIXED if history.allow_lag else PURCHASE)}
    async for found in _rows(connection, names.CREDIT_PURCHASES, only):
        purchase, merchant = str(found["id"]), str(found["merchant_id"])
        missing.discard(purchase)
        report.count("projection")
        row = rows.get(purchase)
        if row is None:
            if not history.allow_lag:
                what = f"purchase {purchase}, which the log has not"
                report.fault("projection", what, merchant=merchant)
            continue
        for what in _odd(found, row, columns):
            what = f"credit_purchases: {purchase}: {what}"
            report.fault("projection", what, merchant=merchant)
    if not history.allow_lag:
        for purchase in missing:
            what = f"credit_purchases: the row of {purchase} is missing"
            report.fault("projection", what, merchant=rows[purchase]["merchant_id"])


@asynccontextmanager
async def _reading(database_url: str) -> AsyncIterator[Any]:
    """One snapshot, which the database lets nobody write in."""
    try:
        connection = await asyncpg.connect(database_url, timeout=10)
        try:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                yield connection
        finally:
            await connection.close()
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError) as error:
        # The text of some of these has the address, and so the password, in it.
        raise VerifyError(
            f"PostgreSQL cannot be read ({type(error).__name__}): mend DATABASE_URL, or make it "
            "empty to verify Kafka alone"
        ) from None


async def _rows(connection: Any, table: str, only: str | None) -> AsyncIterator[Mapping[str, Any]]:
    # The names are constants of ours, no one's input.
    query, arguments = f"SELECT * FROM {table}", []
    if only is not None:
        query, arguments = f"{query} WHERE merchant_id::text = $1", [only]
    async for row in connection.cursor(query, *arguments, prefetch=_FETCH):
        yield dict(row)


def _odd(
    found: Mapping[str, Any], row: Mapping[str, Any], columns: Mapping[str, Any]
) -> Iterator[str]:
    for name, default in columns.items():
        if name not in found:
            yield f"there is no column {name}"
            continue
        projected, wanted = _plain(name, found[name]), _plain(name, row.get(name, default))
        if projected != wanted:
            yield f"{name} is {found[name]}, in the log {row.get(name, default)}"


def _plain(name: str, value: Any) -> Any:
    """Values that are equal when the same is meant, whatever types a table gives them."""
    if value is None or isinstance(value, bool | int):
        return value
    if name == "amount":
        try:
            return Decimal(str(value))
        except InvalidOperation:
            return value
    if isinstance(value, datetime):
        aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        return micros(aware.isoformat())
    if name.endswith("_at"):
        return micros(str(value))
    return str(value)
