"""The rows that a transaction changed, as records of their changelogs."""

from collections.abc import Iterator

from billing_stream.engine.log import MARK_PREFIX
from billing_stream.engine.partition_processor import Outgoing
from billing_stream.records import topics
from billing_stream.records.schemas import encode
from billing_stream.records.topics import Topics
from billing_stream.records.upcasting.versions import WRITTEN
from billing_stream.tables import codecs
from billing_stream.tables.rows import StagedRows


def changed_rows(rows: StagedRows, names: Topics) -> Iterator[Outgoing]:
    """The records of the changelogs; each changed row is one, however often it changed."""
    changelog = names.changelog
    topic = changelog(topics.BILLING_RECORDS)
    for merchant_id, merchant in rows.merchants.items():
        yield Outgoing(topic, merchant_id.encode(), encode(merchant), WRITTEN)
    for letter, done in rows.redriven.items():
        yield Outgoing(topic, MARK_PREFIX + letter.encode(), done.encode(), WRITTEN)
    topic = changelog(topics.CREDIT_PURCHASES)
    for purchase_id, purchase in rows.purchases.items():
        yield Outgoing(topic, purchase_id.encode(), encode(purchase), WRITTEN)
    topic = changelog(topics.CREDIT_ADJUSTMENTS)
    for adjustment_id, adjustment in rows.adjustments.items():
        yield Outgoing(topic, adjustment_id.encode(), encode(adjustment), WRITTEN)
    topic = changelog(topics.IDEMPOTENCY_KEYS)
    for merchant_id, answers in rows.answers_changed.items():
        for key, answer in answers.items():
            name = codecs.answer_key(merchant_id, key).encode()
            yield Outgoing(topic, name, None if answer is None else encode(answer), WRITTEN)
    topic = changelog(topics.SHOPS_TABLE)
    for shop, owner in rows.shops.items():
        value = None if owner is None else owner.encode()
        yield Outgoing(topic, shop.encode(), value, WRITTEN)
