"""The records that say what a decision did: events, shops, and its journal entry."""

from collections.abc import Iterator, Mapping
from datetime import datetime

from billing_stream.domain.outcomes import Decision
from billing_stream.engine.partition_processor import Outgoing, Request
from billing_stream.engine.partitioner import partition_of
from billing_stream.records import schemas, topics
from billing_stream.records.forwarding import forwarded_headers
from billing_stream.records.schemas import InputRecord, encode
from billing_stream.records.topics import Topics
from billing_stream.tables import codecs


def event_records(
    decision: Decision,
    merchant_id: str,
    correlation_id: str,
    cause: str,
    event_topics: Mapping[str, tuple[str, str]],
) -> Iterator[Outgoing]:
    """The events; `event_topics` has topic and event type of each kind."""
    key = merchant_id.encode()
    for event in decision.events:
        topic, event_type = event_topics[event.data.kind]
        headers = (("sequence", b"%d" % event.sequence), ("cause", cause.encode()))
        value = schemas.encode_event(event, event_type, correlation_id)
        yield Outgoing(topic, key, value, headers=headers)


def shop_records(decision: Decision, names: Topics, partitions: int) -> Iterator[Outgoing]:
    """The merchant of each shop that changed, for the partition of the shop."""
    topic = names.name(topics.SHOPS)
    for shop in decision.shops:
        name = codecs.shop_key(shop.platform, shop.domain)
        partition = partition_of(name, partitions)
        yield Outgoing(topic, name.encode(), encode(shop), partition=partition)


def forwarded_record(
    base: str, record: InputRecord, merchant_id: str, names: Topics, partitions: int
) -> Outgoing:
    """A record of topic `base` (without prefix), for the partition that owns the merchant."""
    return Outgoing(
        names.name(topics.COMMANDS),
        merchant_id.encode(),
        record.value,
        headers=forwarded_headers(base, record),
        partition=partition_of(merchant_id, partitions),
    )


def journal_record(
    request: Request, now: datetime, positions: dict[str, int] | None, names: Topics
) -> Outgoing:
    """The journal entry of a command that came from no topic."""
    entry = schemas.JournalEntry(
        command=request.command,
        origin=request.origin,
        correlation_id=request.correlation_id,
        now=now,
        positions=positions or {},
    )
    key = request.command.merchant_id.encode()
    return Outgoing(names.name(topics.JOURNAL), key, encode(entry))
