"""The currency of purchases of releases up to 0.5.1, which did not store it: set once."""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec

from billing_stream.config.settings import Settings
from billing_stream.errors import AuthorizationError
from billing_stream.kafka.answering_broker import answering
from billing_stream.kafka.client_options import client_options
from billing_stream.kafka.committed_log import CommittedLog
from billing_stream.kafka.consumers import short_producer
from billing_stream.kafka.error_classes import ACLS, REFUSALS
from billing_stream.kafka.start_deadline import StartDeadline
from billing_stream.records.catalogue_records import OLD_ROWS_KEY, PARTITION, CurrencyOfOldRows
from billing_stream.records.topics import CATALOGUE, Topics

logger = logging.getLogger(__name__)

_decode = msgspec.json.Decoder(CurrencyOfOldRows).decode


async def with_old_currency(
    settings: Settings, deadline: StartDeadline, *, store: bool = False
) -> Settings:
    """The settings with the currency of old rows that the log has, or else the one that is set.

    With `store` one that is set is written to the log, unless there is one by then.
    """
    options = client_options(settings)
    topic = Topics(settings.app_id, settings.topic_prefix).name(CATALOGUE)
    read = partial(deadline.retry, "the catalogue", partial(_stored, options, topic))
    stored, given = await read(), settings.currency_of_old_rows
    if stored is None and given is not None and store:
        await _write(options, topic, given, deadline)
        stored = await read()
    if stored is not None and given not in (None, stored):
        logger.warning(
            "BILLING_CURRENCY_OF_OLD_ROWS is %s, and the log has stored %s, which counts",
            given,
            stored,
        )
    return settings.model_copy(update={"currency_of_old_rows": stored or given})


async def _stored(options: Mapping[str, Any], topic: str) -> str | None:
    try:
        async with CommittedLog(options) as log:
            # Made by `topics create`; who needs it has checked that it is there.
            tps = [tp for tp in log.partitions(topic) if tp.partition == PARTITION]
            begins, ends = await log.begins(tps), await log.ends(tps)
            async for records in log.read(begins, ends):
                for record in records:
                    if record.key == OLD_ROWS_KEY.encode():
                        return _decode(record.value or b"").currency
    except REFUSALS:
        raise AuthorizationError(f"Kafka does not allow it: topic {topic}: {ACLS}") from None
    return None


async def _write(
    options: Mapping[str, Any], topic: str, currency: str, deadline: StartDeadline
) -> None:
    record = msgspec.json.encode(CurrencyOfOldRows(currency, datetime.now(UTC)))
    async with short_producer(await answering(options), deadline) as producer:
        await producer.send_and_wait(topic, record, key=OLD_ROWS_KEY.encode(), partition=PARTITION)
