"""The projection in PostgreSQL against the tables of the log."""

from collections.abc import Iterator, Mapping
from typing import Any

from billing_stream.audit.verify.facts import History
from billing_stream.audit.verify.projected_events import EVENTS, check_events, check_gaps
from billing_stream.audit.verify.projected_values import plain, reading, rows_of
from billing_stream.audit.verify.row_versions import UNTOLD
from billing_stream.audit.verify.verify_report import Report
from billing_stream.records import topics as names

NONE = "no projection"

MERCHANT = {
    "trial_available": True,
    "trial_started_at": None,
    "trial_ends_at": None,
    "total_credits_purchased": 0,
    "last_purchase_at": None,
    "created_at": None,
    "updated_at": None,
    "credits_adjusted": 0,
    "version": 0,
    "platform": "",
    "domain": "",
}
# Null in rows that a release without these columns projected.
ADDED = ("platform", "domain")
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
    "version": 0,
    "currency": None,
    "pack": None,
    "test": False,
    "refunded_amount": "0",
    "refunded_credits": 0,
    "disputed_credits": 0,
}
# What never changes: all that can be compared while the projection follows behind.
FIXED = ("merchant_id", "credits", "amount", "platform", "created_at", "expires_at")


async def check_projection(
    history: History,
    report: Report,
    database_url: str | None,
    only: str | None,
    schema: str = "public",
) -> None:
    """Compare all rows and events, and the gaps. Raises VerifyError when it cannot read."""
    if database_url is None:
        report.checks["projection"].note = f"{NONE}: DATABASE_URL is not set"
        return
    async with reading(database_url, schema) as connection:
        for table in (names.BILLING_RECORDS, names.CREDIT_PURCHASES):
            if await connection.fetchval("SELECT to_regclass($1)", table) is None:
                report.checks["projection"].note = f"{NONE}: schema {schema} has no table {table}"
                return
        await _merchants(connection, history, report, only)
        await _purchases(connection, history, report, only)
        accepted = await check_gaps(connection, report)
        if await connection.fetchval("SELECT to_regclass($1)", EVENTS) is None:
            report.fault("projection", f"schema {schema} has no table {EVENTS}")
            return
        await check_events(connection, history, report, only, accepted=accepted)


async def _merchants(connection: Any, history: History, report: Report, only: str | None) -> None:
    missing = {f.merchant for f in history.merchants.values() if f.row and "created_at" in f.row}
    async for found in rows_of(connection, names.BILLING_RECORDS, only):
        merchant = str(found["merchant_id"])
        missing.discard(merchant)
        row = history.merchants[merchant].row if merchant in history.merchants else None
        report.count("projection")
        if row is None:
            if not history.allow_lag:
                report.fault("projection", "a merchant that the log has not", merchant=merchant)
            continue
        if history.allow_lag and plain("updated_at", found.get("updated_at")) != plain(
            "updated_at", row.get("updated_at")
        ):
            continue
        columns = {n: default for n, default in MERCHANT.items() if not _unprojected(found, n)}
        for what in _odd(found, row, columns):
            report.fault("projection", f"billing_records: {what}", merchant=merchant)
    if not history.allow_lag:
        for merchant in missing:
            report.fault("projection", "billing_records: the row is missing", merchant=merchant)


async def _purchases(connection: Any, history: History, report: Report, only: str | None) -> None:
    rows = {p: row for f in history.merchants.values() for p, row in f.purchases.items()}
    missing = set(rows)
    columns = {name: PURCHASE[name] for name in (FIXED if history.allow_lag else PURCHASE)}
    async for found in rows_of(connection, names.CREDIT_PURCHASES, only):
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


def _unprojected(found: Mapping[str, Any], name: str) -> bool:
    return name in ADDED and found.get(name, "") is None


def _odd(
    found: Mapping[str, Any], row: Mapping[str, Any], columns: Mapping[str, Any]
) -> Iterator[str]:
    for name, default in columns.items():
        if name in row.get(UNTOLD, ()):
            continue
        if name not in found:
            yield f"there is no column {name}"
            continue
        projected, wanted = plain(name, found[name]), plain(name, row.get(name, default))
        if projected != wanted:
            yield f"{name} is {found[name]}, in the log {row.get(name, default)}"
