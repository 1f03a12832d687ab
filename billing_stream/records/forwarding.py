"""What a record says of itself when it is forwarded to the partition of its merchant."""

from billing_stream.records import schemas, topics
from billing_stream.records.record_ref import RecordRef
from billing_stream.records.schemas import InputRecord


def forwarded_headers(base: str, record: InputRecord) -> list[tuple[str, bytes | None]]:
    """The headers of a record of topic `base` (without prefix), with the topic and the place of it.

    Of a record that was forwarded before, the topic is that from which it came first.
    """
    topic, ours = base, "billing-"
    if base == topics.COMMANDS:
        topic = schemas.forwarded_topic(record.headers) or topics.COMMANDS
        ours = "billing-forwarded-"
    # In other topics ours mean nothing; among the commands they would.
    kept = [(k, v) for k, v in record.headers if not k.startswith(ours)]
    return [
        *kept,
        (schemas.FORWARDED_TOPIC, topic.encode()),
        (schemas.FORWARDED_FROM, str(RecordRef.of(record)).encode()),
    ]
