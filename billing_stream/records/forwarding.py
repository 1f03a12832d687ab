"""Headers of records among the commands: forwarded from another partition, or redriven.

They name where a record came from first. In other topics they mean nothing.
"""

from billing_stream.records import topics
from billing_stream.records.record_ref import RecordRef
from billing_stream.records.unreadable import Headers

# Names the topic whose record this is, on a record that was forwarded to the commands.
FORWARDED_TOPIC = "billing-forwarded-topic"
FORWARDED_FROM = "billing-forwarded-from"
# Names the dead letter of which this record is a copy. However many there are, one is carried
# out; the copy of a copy that was refused names the first letter, too.
REDRIVEN_FROM = "billing-redriven-from"
# More than any place has.
LETTER_CHARS_MAX = 300


def forwarded_headers(
    base: str, headers: Headers, ref: RecordRef
) -> list[tuple[str, bytes | None]]:
    """The headers of a record of topic `base` (without prefix), and where it is.

    Of a record that was forwarded before, the topic is that from which it came first.
    """
    topic, ours = base, "billing-"
    if base == topics.COMMANDS:
        topic = forwarded_topic(headers) or topics.COMMANDS
        ours = "billing-forwarded-"
    # In other topics ours mean nothing; among the commands they would.
    kept = [(k, v) for k, v in headers if not k.startswith(ours)]
    return [*kept, (FORWARDED_TOPIC, topic.encode()), (FORWARDED_FROM, str(ref).encode())]


def forwarded_topic(headers: Headers) -> str | None:
    """The topic of the record that was forwarded, or None."""
    return _header(headers, FORWARDED_TOPIC)


def forwarded_from(headers: Headers) -> str | None:
    """The reference of the record that was forwarded, or None."""
    return _header(headers, FORWARDED_FROM)


def redriven_from(headers: Headers) -> str | None:
    """The dead letter of which a record is a copy, or None."""
    letter = _header(headers, REDRIVEN_FROM)
    # Others write there too, and it is kept for ever.
    return letter if letter and len(letter) <= LETTER_CHARS_MAX else None


def _header(headers: Headers, wanted: str) -> str | None:
    for name, value in headers:
        if name == wanted and value is not None:
            return value.decode("utf-8", "replace")
    return None
