"""`billing-stream deliver`: the parts together, until a signal ends it."""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor

from aiokafka import TopicPartition

from billing_stream.config.listener_settings import Listener
from billing_stream.config.settings import Settings
from billing_stream.deliver.deliver_metrics import Metrics
from billing_stream.deliver.delivery import Delivery, database_of
from billing_stream.deliver.dispatcher import STOP_SECONDS_MAX
from billing_stream.deliver.endpoint_events import EndpointEvents
from billing_stream.deliver.endpoints import ENDPOINTS_MAX
from billing_stream.deliver.event_reader import EventReader
from billing_stream.deliver.sending import Sender
from billing_stream.faust_adapter.unfinished import stopped_by_signals
from billing_stream.kafka.client_options import client_options
from billing_stream.kafka.start_deadline import StartDeadline
from billing_stream.kafka.topic_admin import require_topics
from billing_stream.projector.changelog_reader import Reader
from billing_stream.projector.health_server import serving
from billing_stream.projector.projected_records import Records
from billing_stream.records.topics import Role, Topics
from billing_stream.web.limits import Connections

logger = logging.getLogger(__name__)

STOPPING = "this process is stopping"
# From the signal to the end: requests in flight, what became of them, and to disconnect.
END_SECONDS_MAX = STOP_SECONDS_MAX + 15.0


async def run(settings: Settings) -> None:
    """Deliver until SIGTERM or SIGINT.

    Raises SettingsError, TopicsError or ProjectionError for what no waiting fixes, and KafkaError.
    """
    database_of(settings)
    topics = Topics(settings.app_id, settings.topic_prefix)
    wanted = [topic for topic in topics.all() if topic.role is Role.EVENT]
    about_endpoints = [topic for topic in topics.all() if topic.role is Role.ENDPOINTS]
    await require_topics(settings, [*wanted, *about_endpoints], StartDeadline.of(settings))
    tps = [TopicPartition(one.name, n) for one in wanted for n in range(settings.partitions)]
    metrics, reader = Metrics(), Reader.of_all(client_options(settings), tps)
    sender = Sender(settings.deliver_timeout, allow_private=settings.webhooks_allow_private)
    stopping = stopped_by_signals(END_SECONDS_MAX)
    # Names are resolved in threads: a slow one of one endpoint has no other one wait.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(ENDPOINTS_MAX))
    events = EventReader(reader, Records(topics), metrics)
    delivery = Delivery(settings, events, sender, EndpointEvents(settings, topics), metrics)
    await reader.start()
    try:
        async with serving(
            settings.address_of(Listener.INTERNAL).host,
            settings.deliver_port,
            Connections(settings.connections_max, settings.header_timeout.total_seconds()),
            metrics.registry,
            lambda: [STOPPING] * stopping.is_set() + delivery.problems(),
            delivery.warnings,
            setting="BILLING_DELIVER_PORT",
        ):
            await delivery.run(stopping)
    finally:
        await sender.close()
        await reader.stop()
    logger.info("stopped")
