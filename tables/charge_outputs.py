"""The records that the lane of a charge writes for other lanes, and that others write for it."""

from billing_stream.domain.charges import WaitingWebhook
from billing_stream.engine.partition_processor import Outgoing
from billing_stream.engine.partitioner import partition_of
from billing_stream.records import topics
from billing_stream.records.forwarding import FORWARDED_FROM, FORWARDED_TOPIC
from billing_stream.records.schemas import encode
from billing_stream.records.topics import Topics


def routed(webhook: WaitingWebhook, merchant_id: str, names: Topics, partitions: int) -> Outgoing:
    """A webhook of a charge that is known by now, for the partition of its merchant.

    It is a record of the topic of webhooks, forwarded on that of commands.
    """
    payload = {**webhook.payload, "merchant_id": merchant_id}
    envelope = {"correlation_id": webhook.correlation_id, "data": payload}
    headers = (
        (FORWARDED_TOPIC, webhook.topic.encode()),
        (FORWARDED_FROM, webhook.source.encode()),
    )
    partition = partition_of(merchant_id, partitions)
    key = merchant_id.encode()
    return Outgoing(names.name(topics.COMMANDS), key, encode(envelope), headers, partition)
