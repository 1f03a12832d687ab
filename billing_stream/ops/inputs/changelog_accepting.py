"""An operator accepts that a changelog was created again, and that its rows are gone."""

from collections.abc import Mapping

import msgspec

from billing_stream.engine.log import CHANGELOGS_KEY
from billing_stream.kafka.consumers import asking, short_producer
from billing_stream.kafka.start_deadline import StartDeadline
from billing_stream.kafka.topic_logs import changelog_ids
from billing_stream.ops.dead_letters.desk_connection import Cluster
from billing_stream.records.upcasting.versions import WRITTEN

BY, REASON = "accepted-by", "accepted-because"


async def accept_changelogs(
    cluster: Cluster,
    changelogs: Mapping[str, str],
    *,
    by: str,
    reason: str,
    deadline: StartDeadline,
) -> None:
    """Write the present ids of the changelogs (topics by table) to all partitions of all of them.

    It is the record that a lane writes after a restore, with who accepted it in the headers.
    Partitions that have it already stay as they are. Raises KafkaError and KafkaNotReady.
    """
    async with asking(cluster.options, deadline) as client:
        value = msgspec.json.encode(await changelog_ids(client, changelogs))
    headers = [*WRITTEN, (BY, by.encode()), (REASON, reason.encode())]
    async with short_producer(cluster.options, deadline) as producer:
        for topic in changelogs.values():
            for partition in range(cluster.partitions):
                await producer.send_and_wait(
                    topic, value, key=CHANGELOGS_KEY, partition=partition, headers=headers
                )
