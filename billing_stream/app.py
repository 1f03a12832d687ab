"""The one place where the parts meet: `build(settings)` makes an app, and keeps no globals."""

import asyncio
import importlib
import logging
import re
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import faust

import agents.commands
import agents.merchants
import agents.shops
import agents.webhooks
import tables.billing_records
import tables.credit_adjustments
import tables.credit_purchases
import tables.idempotency_keys
import tables.shops
import web.server
from billing_stream import topics as names
from billing_stream.engine.fatal import die
from billing_stream.engine.kafka_log import KafkaLog, transactional_ids
from billing_stream.engine.lanes import Lanes
from billing_stream.engine.lease import Lease
from billing_stream.engine.points import crash_at, pass_by
from billing_stream.engine.poison import PoisonLimits
from billing_stream.engine.recovery import new_table_manager
from billing_stream.engine.timers import run_timers
from billing_stream.engine.transport import EngineConsumer, new_transport
from billing_stream.engine.watchdog import Watchdog
from billing_stream.errors import SettingsError
from billing_stream.faust_credentials import credentials
from billing_stream.kafka_options import client_options
from billing_stream.kafka_start import StartDeadline
from billing_stream.metrics.state import Lags, WorkerState
from billing_stream.metrics.transactions import TransactionMetrics
from billing_stream.metrics.worker import WorkerMetrics
from billing_stream.processor import BillingProcessor, new_processors
from billing_stream.replicas import ask_unwritable
from billing_stream.rights import require_rights
from billing_stream.settings import Settings, StoreKind
from billing_stream.topics import Topics
from billing_stream.tracing.factory import new_tracing
from billing_stream.tracing.spans import Tracing
from billing_stream.tracing.stage import TracedStage
from tables.committed import CommittedRows
from tables.store import NewStore, in_memory
from web.views import Context

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BillingApp:
    """A built app: Faust's part, and ours."""

    settings: Settings
    topics: Topics
    lanes: Lanes
    faust: faust.App
    tables: dict[str, Any]
    context: Context
    metrics: WorkerMetrics


def build(settings: Settings) -> BillingApp:
    """Make an app from settings; nothing is connected before it is started."""
    topics = Topics(settings.app_id, settings.topic_prefix)
    options = client_options(settings)
    group = settings.topic_prefix + settings.app_id
    reach = crash_at(settings.crash_at) if settings.crash_at else pass_by
    log = KafkaLog(
        options,
        app_id=group,
        changelogs={table: topics.changelog(table) for table in names.TABLES},
        written=partial(topics.written_by, partitions=settings.partitions),
        reach=reach,
        start_seconds=settings.start_deadline.total_seconds(),
    )
    metrics, tracing = WorkerMetrics(), new_tracing(settings)
    lease = Lease(settings.session_timeout.total_seconds())
    lanes = Lanes(
        log,
        new_processors(
            partitions=settings.partitions,
            policy=settings.policy,
            names=topics,
            max_record_bytes=settings.max_record_bytes,
            new_store=_new_store(settings, group),
            new_stage=None if tracing is None else partial(TracedStage, tracing=tracing),
        ),
        positions_topic=topics.changelog(names.BILLING_RECORDS),
        reach=reach,
        poison=PoisonLimits(settings.poison_in_a_row, settings.poison_percent),
        lease=lease,
        observer=TransactionMetrics(metrics, topics),
    )
    app = _new_faust_app(settings, group, lanes)
    app.transport = new_transport(app, lanes, lease, options, frozenset(topics.inputs()))
    return _register(app, lanes, topics, settings, metrics, tracing)


def static_member(settings: Settings) -> str | None:
    """The group instance id, or None for a member that is forgotten when it leaves.

    The URL is part of it: to a member that returns, the broker gives its old assignment,
    which names the URL that it had, and Faust's assignor cannot work with another one.
    """
    if settings.worker_name is None:
        return None
    name = f"{settings.worker_name}-{settings.api_host}-{settings.api_external_port}"
    return re.sub(r"[^A-Za-z0-9._-]", "-", name)


def _new_faust_app(settings: Settings, group: str, lanes: Lanes) -> faust.App:
    session_seconds = settings.session_timeout.total_seconds()
    return faust.App(
        group,
        broker=[f"kafka://{server}" for server in settings.bootstrap_servers],
        broker_credentials=credentials(settings),
        datadir=str(settings.data_dir / "worker"),
        topic_partitions=settings.partitions,
        topic_replication_factor=settings.replication_factor,
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        TableManager=new_table_manager(lanes),
        consumer_group_instance_id=static_member(settings),
        consumer_max_fetch_size=1 << 20,
        broker_max_poll_records=2_000,
        broker_max_poll_interval=300.0,
        broker_session_timeout=session_seconds,
        broker_heartbeat_interval=session_seconds / 4,
        broker_rebalance_timeout=10.0,
        # Above the rebalance timeout, for which a join may wait.
        broker_request_timeout=12.0,
        broker_commit_interval=1.0,
        producer_request_timeout=20.0,
        stream_wait_empty=True,
        # Messages are whole batches: more of them would only fill memory.
        stream_buffer_maxsize=8,
        web_enabled=True,
        web_bind=settings.api_bind,
        web_host=settings.api_host,
        web_port=settings.api_external_port,
        web_router_enabled=False,
        web_tables_enabled=False,
        web_graph_enabled=False,
        web_stats_enabled=False,
        web_application_options=web.server.application_options(settings),
        debug=False,
    )


def _register(
    app: faust.App,
    lanes: Lanes,
    topics: Topics,
    settings: Settings,
    metrics: WorkerMetrics,
    tracing: Tracing | None,
) -> BillingApp:
    for module in (agents.merchants, agents.webhooks, agents.commands, agents.shops):
        module.register(app, lanes, topics)
    defined = {}
    for table in (
        tables.billing_records,
        tables.credit_purchases,
        tables.credit_adjustments,
        tables.idempotency_keys,
        tables.shops,
    ):
        view = table.register(app, topics, settings.partitions, partial(_rows_of, lanes))
        defined[view.name] = view
    _register_timers(app, lanes)
    watchdog = Watchdog(
        lanes,
        ask_behind=lambda: cast(EngineConsumer, app.consumer).behind(),
        ask_unwritable=lambda: ask_unwritable(settings),
        not_ready_after=settings.stuck_not_ready_after.total_seconds(),
        exit_after=settings.stuck_exit_after.total_seconds(),
        die=die,
    )
    app.task(watchdog.watch)
    ask_lags = partial(_lags, app, topics)
    metrics.registry.register(
        WorkerState(watchdog, partitions=settings.partitions, ask_lags=ask_lags)
    )
    context = web.server.register(
        app,
        watchdog,
        topics,
        settings,
        metrics=metrics,
        tracing=tracing,
        ask_lags=ask_lags,
    )
    return BillingApp(settings, topics, lanes, app, defined, context, metrics)


def _lags(app: faust.App, topics: Topics) -> Lags:
    """The latest sample; asked for when there is no consumer yet, none."""
    consumer = cast(EngineConsumer, app.consumer)
    records = {(topics.base(tp.topic), tp.partition): n for tp, n in consumer.lags.items()}
    return Lags(records, consumer.lags_at)


def _new_store(settings: Settings, group: str) -> NewStore:
    """Raises SettingsError when the library for it is not installed."""
    if settings.store is StoreKind.MEMORY:
        return in_memory
    try:
        store = importlib.import_module("tables.rocks.store")
    except ImportError as error:
        raise SettingsError(
            f"BILLING_STORE=rocksdb needs what `pip install 'billing-stream[rocksdb]'` installs: "
            f"{error}"
        ) from error
    # Of this worker alone: the port is what tells the workers of a machine apart.
    folder = settings.data_dir / "store" / group / str(settings.api_external_port)
    made: NewStore = store.in_rocksdb(folder, settings.store_cache_mb)
    return made


def _rows_of(lanes: Lanes) -> list[CommittedRows]:
    """The committed rows of every partition owned here."""
    return [cast(BillingProcessor, lane.processor).rows for lane in lanes.values()]


def _register_timers(app: faust.App, lanes: Lanes) -> None:
    async def timers() -> None:
        try:
            await run_timers(lanes)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            die("the timers failed", error)

    app.task(timers)


async def check_rights(settings: Settings, deadline: StartDeadline) -> None:
    """Refuse to start where the brokers do not let this user be a worker. Raises NotAllowed."""
    group = settings.topic_prefix + settings.app_id
    ids = transactional_ids(group, 0)
    await require_rights(client_options(settings), group, ids, deadline=deadline)
