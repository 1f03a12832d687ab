"""A webhook over HTTP that became a dead letter, as the record it would have been.

The value that is redriven, as it was kept or corrected, may be the body of the platform, the
payload of a record of its topic, or a command.
"""

from typing import Any

from billing_stream.engine.partitioner import partition_of
from billing_stream.errors import InvalidRecord, WebhookForged, WebhookMalformed
from billing_stream.ops.dead_letters.dead_letter_reader import read
from billing_stream.ops.dead_letters.desk_connection import Cluster
from billing_stream.platforms.base import PlatformEvent
from billing_stream.platforms.webhook_bodies import read_object
from billing_stream.platforms.webhook_records import TOPICS, payload_of, read_kept
from billing_stream.records import schemas, topics
from billing_stream.records.http_dead_letters import HttpDelivery


def webhook_topic(delivery: HttpDelivery) -> str:
    """The topic (without a prefix) of the kind of the webhook, as far as it is known."""
    found: dict[Any, str] = dict(TOPICS)
    return found.get(delivery.kind, topics.PURCHASE_UPDATED)


async def record_of(cluster: Cluster, delivery: HttpDelivery, body: bytes) -> tuple[str, bytes]:
    """The topic (without a prefix) and the value of the record.

    A shop is looked up as it is registered now. Raises InvalidRecord, which names the reason.
    """
    try:
        if "command" in read_object(body):
            return topics.COMMANDS, body
        content = read_kept(delivery.platform, body, kind=delivery.kind, shop=delivery.shop)
    except (WebhookForged, WebhookMalformed) as error:
        raise InvalidRecord(str(error)) from None
    merchant_id = content.merchant_id if isinstance(content, PlatformEvent) else None
    if merchant_id is None:
        merchant_id = await _merchant_of(cluster, delivery)
    payload = payload_of(content, merchant_id)
    return payload.topic, schemas.encode(payload.data)


async def _merchant_of(cluster: Cluster, delivery: HttpDelivery) -> str:
    if not delivery.shop:
        raise InvalidRecord("it names neither a merchant nor a shop")
    shop = f"{delivery.platform}:{delivery.shop}"
    table = cluster.topics.changelog(topics.SHOPS_TABLE)
    owner: bytes | None = None
    async for records in read(cluster, table, partitions=[partition_of(shop, cluster.partitions)]):
        for record in records:
            if record.key == shop.encode():
                owner = record.value
    if owner is None:
        raise InvalidRecord(f"the shop {delivery.shop} has no merchant")
    return owner.decode()
