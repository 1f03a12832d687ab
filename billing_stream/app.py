"""The one place where the parts meet: `build(settings)` makes an app, and keeps no globals."""

import asyncio
import logging
from dataclasses import dataclass
from functools import partial
from typing import cast

from billing_stream.agents import inputs
from billing_stream.config.settings import Settings
from billing_stream.engine.broker_time import BrokerTime
from billing_stream.engine.crash_points import crash_at, no_crash
from billing_stream.engine.fatal import die
from billing_stream.engine.kafka_log import KafkaLog, some_ids
from billing_stream.engine.lanes import Lanes
from billing_stream.engine.lease import Lease
from billing_stream.engine.poison import PoisonLimits
from billing_stream.engine.timers import run_timers
from billing_stream.engine.watchdog import Watchdog
from billing_stream.faust_adapter.faust_app import App, new_app, static_member
from billing_stream.faust_adapter.table_facade import declare_table
from billing_stream.faust_adapter.transport import EngineConsumer, new_transport
from billing_stream.kafka.client_options import client_options
from billing_stream.kafka.cluster_watch import ClusterWatch
from billing_stream.kafka.kafka_absence import KafkaAbsence
from billing_stream.kafka.open_transactions import REPORT_AFTER, OpenTransactions
from billing_stream.kafka.replicas import ask_unwritable
from billing_stream.kafka.required_access import require_rights
from billing_stream.kafka.start_deadline import StartDeadline
from billing_stream.observability.metrics.cluster_notices import ClusterNotices
from billing_stream.observability.metrics.transaction_metrics import TransactionMetrics
from billing_stream.observability.metrics.worker_metrics import WorkerMetrics
from billing_stream.observability.metrics.worker_state import Lags, WorkerState
from billing_stream.observability.tracing.spans import Tracing
from billing_stream.observability.tracing.traced_stage import TracedStage
from billing_stream.observability.tracing.tracing_factory import new_tracing
from billing_stream.ops.dead_letters.desk_connection import Cluster
from billing_stream.ops.dead_letters.letter_follower import LetterFollower
from billing_stream.ops.dead_letters.open_letters import OpenDeadLetters
from billing_stream.processor import BillingLanes, BillingProcessor
from billing_stream.reconcile.reconciler import Reconciler
from billing_stream.records import topics as names
from billing_stream.records.topics import Topics
from billing_stream.tables.tables import TABLES
from billing_stream.web import server
from billing_stream.web.context import Context

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BillingApp:
    """A built app: Faust's part and that of billing."""

    settings: Settings
    topics: Topics
    lanes: BillingLanes
    faust: App
    context: Context
    metrics: WorkerMetrics


def build(settings: Settings) -> BillingApp:
    """Make an app from settings; nothing is connected before it is started."""
    topics = Topics(settings.app_id, settings.topic_prefix)
    options = client_options(settings)
    group = settings.topic_prefix + settings.app_id
    crash_hook = crash_at(settings.crash_at) if settings.crash_at else no_crash
    waits, broker_time = OpenTransactions(), BrokerTime()
    log = KafkaLog(
        options,
        app_id=group,
        changelogs={table: topics.changelog(table) for table in names.TABLES},
        offsets_topic=topics.name(names.MERCHANT_CREATED),
        worker=static_member(settings),
        partitions=settings.partitions,
        written=partial(topics.written_by, partitions=settings.partitions),
        crash_hook=crash_hook,
        start_seconds=settings.start_deadline.total_seconds(),
        waits=waits,
        broker_time=broker_time,
    )
    metrics, tracing = WorkerMetrics(), new_tracing(settings)
    lease = Lease(settings.session_timeout.total_seconds())
    lanes = Lanes(
        log,
        partial(
            BillingProcessor,
            partitions=settings.partitions,
            policy=settings.policy,
            names=topics,
            max_record_bytes=settings.max_record_bytes,
            new_stage=None if tracing is None else partial(TracedStage, tracing=tracing),
        ),
        positions_topic=topics.changelog(names.BILLING_RECORDS),
        partitions=settings.partitions,
        clock=broker_time.now,
        crash_hook=crash_hook,
        poison=PoisonLimits(settings.poison_in_a_row, settings.poison_percent),
        stoppable=topics.stoppable(),
        commands=topics.name(names.OPERATOR_COMMANDS),
        lease=lease,
        observer=TransactionMetrics(
            metrics, topics, {code for pack in settings.packs.values() for code in pack.prices}
        ),
    )
    app = new_app(settings, group, lanes, server.application_options(settings))
    inputs_read = frozenset(topics.inputs())
    app.transport = new_transport(app, lanes, lease, options, inputs_read)
    return _register(app, lanes, topics, settings, metrics, tracing, waits, broker_time)


def _register(
    app: App,
    lanes: BillingLanes,
    topics: Topics,
    settings: Settings,
    metrics: WorkerMetrics,
    tracing: Tracing | None,
    waits: OpenTransactions,
    broker_time: BrokerTime,
) -> BillingApp:
    inputs.register(app, lanes, topics)
    for table in TABLES:
        declare_table(app, table.name, topics.changelog(table.name), settings.partitions)
    _register_timers(app, lanes)
    watch = ClusterWatch(settings)
    letters = OpenDeadLetters(Cluster.of(settings))
    follower = LetterFollower(Cluster.of(settings), letters)
    app.task(watch.watch)
    app.task(follower.watch)
    not_ready_after = settings.stuck_not_ready_after.total_seconds()
    absence = _absence(app)
    notices = ClusterNotices(
        lanes,
        watch,
        open_transactions=lambda: cast(EngineConsumer, app.consumer).open_transactions,
        open_seconds=not_ready_after,
        broker_time=broker_time,
        open_letters=lambda: letters.counts,
        absence=absence.problems,
        base=topics.base,
    )
    metrics.registry.register(notices)
    watchdog = Watchdog(
        lanes,
        ask_lagging=lambda: cast(EngineConsumer, app.consumer).lagging_inputs(),
        ask_unwritable=lambda: ask_unwritable(settings),
        more_warnings=notices.warnings,
        recovery_waits=lambda: [*absence.problems(), *map(str, waits.found(REPORT_AFTER))],
        not_ready_after=not_ready_after,
        exit_after=settings.stuck_exit_after.total_seconds(),
        die=die,
    )
    app.task(watchdog.watch)
    ask_lags = partial(_lags, app, topics)
    metrics.registry.register(
        WorkerState(watchdog, partitions=settings.partitions, ask_lags=ask_lags, base=topics.base)
    )
    context = server.register(
        app,
        watchdog,
        topics,
        settings,
        metrics=metrics,
        tracing=tracing,
        ask_lags=ask_lags,
        letters=follower,
    )
    if settings.reconcile:
        reconciler = Reconciler(
            lanes,
            context.platforms,
            context.ingress,
            metrics,
            every=settings.reconcile_every,
            concurrency=settings.reconcile_concurrency,
            max_record_bytes=settings.max_record_bytes,
        )
        app.task(reconciler.run)
    return BillingApp(settings, topics, lanes, app, context, metrics)


def _absence(app: App) -> KafkaAbsence:
    absence = KafkaAbsence(
        lambda: cast(EngineConsumer, app.consumer).silent.none_answers(),
        "Requests get 503 and records wait; the worker continues by itself when Kafka answers",
    )
    app.task(absence.watch)
    return absence


def _lags(app: App, topics: Topics) -> Lags:
    """The latest sample; asked for when there is no consumer yet, none."""
    consumer = cast(EngineConsumer, app.consumer)
    records = {(topics.base(tp.topic), tp.partition): n for tp, n in consumer.lags.items()}
    return Lags(records, consumer.lags_at)


def _register_timers(app: App, lanes: BillingLanes) -> None:
    async def timers() -> None:
        try:
            await run_timers(lanes)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            die("the timers failed", error)

    app.task(timers)


async def check_rights(settings: Settings, deadline: StartDeadline) -> None:
    """Raise AuthorizationError where the brokers do not let this user be a worker."""
    group = settings.topic_prefix + settings.app_id
    await require_rights(client_options(settings), group, some_ids(group), deadline=deadline)
