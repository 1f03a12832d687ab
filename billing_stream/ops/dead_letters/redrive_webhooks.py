"""A webhook over HTTP that became a dead letter, as the record it would have been.

The value that is redriven, as it was kept or corrected, may be the body of the platform, the
payload of a record of its topic, or a command.
"""

from typing import Any

import msgspec

from billing_stream.domain.charges import Charge
from billing_stream.domain.ids import charge_key, shop_key
from billing_stream.engine.partitioner import partition_of
from billing_stream.errors import InvalidRecord, WebhookForged, WebhookMalformed
from billing_stream.ops.dead_letters.dead_letter_reader import read
from billing_stream.ops.dead_letters.desk_connection import Cluster
from billing_stream.platforms.base import PlatformEvent, ShopEvent
from billing_stream.platforms.webhook_bodies import read_object
from billing_stream.platforms.webhook_records import TOPICS, payload_of, read_kept
from billing_stream.records import schemas, topics
from billing_stream.records.charge_records import UnroutedWebhook
from billing_stream.records.http_dead_letters import HttpDelivery
from billing_stream.tables import codecs

_charge = msgspec.json.Decoder(Charge)
_unrouted = msgspec.json.Decoder(UnroutedWebhook)


def webhook_topic(delivery: HttpDelivery) -> str:
    """The topic (without a prefix) of the kind of the webhook, as far as it is known."""
    found: dict[Any, str] = dict(TOPICS)
    return found.get(delivery.kind, topics.PURCHASE_UPDATED)


async def record_of(cluster: Cluster, delivery: HttpDelivery, body: bytes) -> tuple[str, bytes]:
    """The topic (without a prefix) and the value of the record.

    Where it names no merchant, its charge is looked up, and if no purchase has that, its shop, as
    they are registered now. Raises InvalidRecord, which names the reason.
    """
    try:
        if "command" in read_object(body):
            return topics.COMMANDS, body
        content = read_kept(
            delivery.platform,
            body,
            kind=delivery.kind,
            shop=delivery.shop,
            received_at=delivery.received_at,
        )
    except (WebhookForged, WebhookMalformed) as error:
        raise InvalidRecord(str(error)) from None
    merchant_id = None
    if isinstance(content, PlatformEvent):
        merchant_id = content.merchant_id
        if merchant_id is None:
            charge = charge_key(delivery.platform, content.charge_id)
            merchant_id = await merchant_of_charge(cluster, charge)
    if merchant_id is None:
        shop = content.shop if isinstance(content, ShopEvent) else _shop_of(delivery)
        merchant_id = await _merchant_of(cluster, shop)
    payload = payload_of(content, merchant_id)
    return payload.topic, schemas.encode(payload.data)


def _shop_of(delivery: HttpDelivery) -> str:
    if not delivery.shop:
        raise InvalidRecord("it names neither a merchant nor a shop")
    return shop_key(delivery.platform, delivery.shop)


async def _merchant_of(cluster: Cluster, shop: str) -> str:
    owner = await read_row(cluster, topics.SHOPS_TABLE, shop)
    merchant_id = None if owner is None else codecs.shop(owner).merchant_id
    if merchant_id is None:
        raise InvalidRecord(f"the shop {shop.partition(':')[2]} has no merchant")
    return merchant_id


async def unrouted_record_of(cluster: Cluster, kept: bytes, value: bytes) -> tuple[str, bytes]:
    """The same of a webhook that waited for its charge in vain; `kept` is its letter's record.

    `value` may be corrected: to a command, or to a payload that names the merchant. Raises
    InvalidRecord, which names the reason.
    """
    try:
        meant = read_object(value)
    except (WebhookForged, WebhookMalformed) as error:
        raise InvalidRecord(str(error)) from None
    if "command" in meant:
        return topics.COMMANDS, value
    try:
        webhook = _unrouted.decode(schemas.payload_of(kept))
        if "merchant_id" in meant and "record" not in meant:
            return webhook.topic, value
        webhook = _unrouted.decode(schemas.payload_of(value))
    except msgspec.DecodeError as error:
        raise InvalidRecord(str(error)) from None
    merchant_id = await merchant_of_charge(cluster, webhook.charge)
    if merchant_id is None:
        raise InvalidRecord(f"no purchase has the charge {webhook.charge_id!r}")
    return webhook.topic, schemas.encode({**webhook.payload, "merchant_id": merchant_id})


async def merchant_of_charge(cluster: Cluster, charge: str) -> str | None:
    """The merchant of the purchase that has the charge `platform:charge_id`, or None."""
    row = await read_row(cluster, topics.CHARGES_TABLE, charge)
    return None if row is None else _charge.decode(row).merchant_id


async def read_row(cluster: Cluster, table: str, key: str) -> bytes | None:
    """The value of a row as it is now, read from the table's changelog."""
    found: bytes | None = None
    partitions = [partition_of(key, cluster.partitions)]
    async for records in read(cluster, cluster.topics.changelog(table), partitions=partitions):
        for record in records:
            if record.key == key.encode():
                found = record.value
    return found
