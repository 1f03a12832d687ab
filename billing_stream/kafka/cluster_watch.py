"""Looks at the cluster from time to time, for changes that no record, request or error reports."""

import asyncio
import logging

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from billing_stream.config.settings import Settings
from billing_stream.config.shared_settings import shared_settings
from billing_stream.kafka.added_partitions import added, partition_counts
from billing_stream.kafka.answering_broker import answering
from billing_stream.kafka.client_options import client_options
from billing_stream.kafka.group_members import STABLE, describe_group, mismatches
from billing_stream.records.topics import Topics

logger = logging.getLogger(__name__)

LOOK_SECONDS = 30.0
ASK_SECONDS = 15.0


class ClusterWatch:
    """The latest answers; those before, where Kafka gave none."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.added: list[TopicPartition] = []
        # Members of the group with other settings than this worker, a line each.
        self.mismatches: list[str] = []

    async def watch(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                async with asyncio.timeout(ASK_SECONDS):
                    await self._look()
            except (KafkaError, OSError) as error:
                # Also TimeoutError. The watchdog says that Kafka does not answer.
                logger.debug("the cluster was looked at, without an answer: %r", error)
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self) -> None:
        settings = self._settings
        topics = Topics(settings.app_id, settings.topic_prefix)
        options = await answering(client_options(settings))
        counts = await partition_counts(options, topics)
        self.added = added(counts, settings.partitions)
        group = await describe_group(options, settings.topic_prefix + settings.app_id)
        if group.state == STABLE:
            self.mismatches = mismatches(shared_settings(settings), group.members)
