"""The Faust app: consumer group, assignment, agents and web server."""

import re
from collections.abc import Mapping
from typing import Any

import faust

from billing_stream.config.listener_settings import Listener
from billing_stream.config.settings import Settings
from billing_stream.config.shared_settings import shared_settings
from billing_stream.engine.lanes import Lanes
from billing_stream.faust_adapter.credentials import credentials
from billing_stream.faust_adapter.lane_assignor import new_assignor
from billing_stream.faust_adapter.recovery import new_table_manager

App = faust.App


def static_member(settings: Settings) -> str | None:
    """The group instance id, or None for a member that is forgotten when it leaves.

    The URL is part of it: to a member that returns, the broker gives its old assignment,
    which names the URL that it had, and Faust's assignor cannot work with another one.
    """
    if settings.worker_name is None:
        return None
    port = settings.address_of(Listener.INTERNAL).port
    name = f"{settings.worker_name}-{settings.api_host}-{port}"
    return re.sub(r"[^A-Za-z0-9._-]", "-", name)


def new_app(
    settings: Settings, group: str, lanes: Lanes[Any], web_options: Mapping[str, Any]
) -> faust.App:
    """A Faust app of these settings, not started. Its tables live in the lanes."""
    session_seconds = settings.session_timeout.total_seconds()
    internal = settings.address_of(Listener.INTERNAL)
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
        PartitionAssignor=new_assignor(settings.partitions, shared_settings(settings)),
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
        # Where the others ask this worker: what they read in the group is made of it.
        web_bind=internal.host,
        web_host=settings.api_host,
        web_port=internal.port,
        web_router_enabled=False,
        web_tables_enabled=False,
        web_graph_enabled=False,
        web_stats_enabled=False,
        web_application_options=dict(web_options),
        debug=False,
    )
