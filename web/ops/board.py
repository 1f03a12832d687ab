"""The overview, and the page of workers and partitions."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from msgspec import Struct

from billing_stream.domain.model import Platform, PurchaseStatus
from billing_stream.observability.metrics.worker_metrics import HTTP_SECONDS, TRANSACTION_SECONDS
from billing_stream.web.internal import WORKER, peer_response
from billing_stream.web.operation import INTERNAL, OPS, Call, operation
from billing_stream.web.ops.business import Amounts
from billing_stream.web.ops.dashboard import ROWS_PATH, TotalsWithSource
from billing_stream.web.ops.notices import (
    level_of,
    of_cluster,
    of_early,
    of_endpoints,
    of_letters,
    of_projection,
)
from billing_stream.web.ops.ops_views import OPS_PATH, SESSION, page
from billing_stream.web.ops.recorder import MINUTES, Counts, Minute, quantile
from billing_stream.web.ops.revenue import DAYS
from billing_stream.web.ops.session import Session
from billing_stream.web.peer_client import FIGURES_PATH

WORKERS_PATH = "/ops/workers"
MINUTES_SHOWN_MIN = 10


class HourSeries(Struct, frozen=True):
    """A figure over the last hour, minute by minute from the oldest; None: not known."""

    records: list[float | None]
    requests: list[float | None]
    commit_p50: list[float | None]
    commit_p99: list[float | None]
    answer_p50: list[float | None]
    answer_p99: list[float | None]


class Latency(Struct, frozen=True):
    """Half of them take less than `p50` seconds, 99 of 100 less than `p99`."""

    p50: float | None
    p99: float | None


class PurchaseTotal(Struct, frozen=True):
    """Purchases of a status and platform."""

    count: int = 0
    amounts: Amounts = {}


@operation("GET", OPS_PATH, SESSION, listeners=OPS)
async def overview(call: Call[Session]) -> web.Response:
    """How all of it is, on one page."""
    dashboard = call.context.dashboard
    cluster, business, letters, endpoints, state, revenue = await asyncio.gather(
        dashboard.cluster(),
        dashboard.business(),
        dashboard.letters(),
        dashboard.endpoints(),
        dashboard.projection_state(),
        dashboard.revenue(DAYS[0]),
    )
    now, table, moment = cluster.now(), _table(business), datetime.now(UTC)
    notices = [
        *of_cluster(cluster),
        *of_early(cluster, moment),
        *of_letters(*(letters.seen.open, letters.seen.older) if letters.seen else (None, False)),
        *of_endpoints(endpoints.known),
        *of_projection(state, moment),
    ]
    return page(
        call,
        "overview.html",
        cluster=cluster,
        notices=notices,
        level=level_of(notices),
        state=state,
        revenue=revenue,
        reconcile=dashboard.reconcile,
        now_counts=now,
        commits=_latency(now.commits, TRANSACTION_SECONDS),
        answers=_latency(now.answers, HTTP_SECONDS),
        course=course(cluster.minutes()),
        hour=cluster.hour(),
        sum=business,
        table=table,
        statuses=list(PurchaseStatus),
        platforms=[one for one in Platform if any(p == one for _, p in table)],
        letters=letters,
        endpoints=endpoints,
    )


@operation("GET", WORKERS_PATH, SESSION, listeners=OPS)
async def workers(call: Call[Session]) -> web.Response:
    """Every worker and every partition."""
    cluster = await call.context.dashboard.cluster()
    notices = list(of_cluster(cluster))
    level = level_of(notices)
    return page(call, "workers.html", cluster=cluster, notices=notices, level=level)


@operation("GET", FIGURES_PATH, WORKER, listeners=INTERNAL)
async def own_figures(call: Call[Any]) -> web.Response:
    """What this worker reports to another: its figures."""
    return peer_response(call.context.dashboard.figures.read())


@operation("GET", ROWS_PATH, WORKER, listeners=INTERNAL)
async def own_rows(call: Call[Any]) -> web.Response:
    """What this worker reports to another of its rows: trials, purchases and revenue, or null."""
    return peer_response(await call.context.dashboard.own_rows())


def course(minutes: Sequence[Minute]) -> HourSeries:
    """The hour up to the last whole minute, in rates per second and in seconds."""
    by_minute = {minute.at: minute.counts for minute in minutes}
    last = max(by_minute, default=0)
    # Of a cluster that is new not an hour of nothing.
    known = min(MINUTES, max(MINUTES_SHOWN_MIN, last - min(by_minute, default=last)))
    hour: list[Counts | None] = [by_minute.get(last - back) for back in range(known, 0, -1)]

    def over(part: float, name: str, buckets: Sequence[float]) -> list[float | None]:
        return [
            None if one is None else quantile(part, buckets, getattr(one, name)) for one in hour
        ]

    return HourSeries(
        records=[None if one is None else one.records / 60 for one in hour],
        requests=[None if one is None else one.requests / 60 for one in hour],
        commit_p50=over(0.5, "commits", TRANSACTION_SECONDS),
        commit_p99=over(0.99, "commits", TRANSACTION_SECONDS),
        answer_p50=over(0.5, "answers", HTTP_SECONDS),
        answer_p99=over(0.99, "answers", HTTP_SECONDS),
    )


def _latency(counts: Sequence[int], buckets: Sequence[float]) -> Latency:
    return Latency(quantile(0.5, buckets, counts), quantile(0.99, buckets, counts))


def _table(found: TotalsWithSource) -> dict[tuple[str, str], PurchaseTotal]:
    if found.business is None:
        return {}
    return {
        (p.status, p.platform): PurchaseTotal(p.count, p.amounts) for p in found.business.purchases
    }
