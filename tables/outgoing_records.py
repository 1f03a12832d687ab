"""The records that a transaction writes: changed rows, events, shops, journal, dead letters."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from billing_stream.domain.charges import NOTHING
from billing_stream.domain.ids import charge_key
from billing_stream.domain.outcomes import Event, ShopRegistered
from billing_stream.engine.log import MARK_PREFIX
from billing_stream.engine.partition_processor import Outgoing, Request
from billing_stream.engine.partitioner import partition_of
from billing_stream.records import schemas, topics
from billing_stream.records.charge_records import ChargeRegistered
from billing_stream.records.dead_letters import DeadLetter
from billing_stream.records.forwarding import forwarded_headers
from billing_stream.records.record_ref import RecordRef
from billing_stream.records.schemas import InputRecord, encode
from billing_stream.records.topics import Topics
from billing_stream.records.upcasting.versions import WRITTEN
from billing_stream.tables import codecs, shop_trial_records
from billing_stream.tables.rows import StagedRows


class OutgoingRecords:
    """Makes the records of a partition, for the topics of this app. One maker serves all lanes."""

    def __init__(self, names: Topics, partitions: int) -> None:
        self._partitions = partitions
        self._changelogs = {table: names.changelog(table) for table in topics.TABLES}
        self.event_topics = {
            kind: (names.name(topics.event_type(kind)), topics.event_type(kind))
            for kind in topics.EVENT_TYPES
        }
        self.journal_topic = names.name(topics.JOURNAL)
        self._shops = names.name(topics.SHOPS)
        self._charges = names.name(topics.CHARGES)
        self._commands = names.name(topics.COMMANDS)
        self._dead_letters = names.name(topics.DEAD_LETTERS)

    def changed(self, rows: StagedRows) -> Iterator[Outgoing]:
        """The records of the changelogs; each changed row is one, however often it changed."""
        changelogs = self._changelogs
        topic = changelogs[topics.BILLING_RECORDS]
        for merchant_id, merchant in rows.merchants.items():
            yield Outgoing(topic, merchant_id.encode(), encode(merchant), WRITTEN)
        for letter, done in rows.redriven.items():
            yield Outgoing(topic, MARK_PREFIX + letter.encode(), done.encode(), WRITTEN)
        if trials := rows.trials.maps[0]:
            yield from shop_trial_records.marks(topic, trials)
        topic = changelogs[topics.CREDIT_PURCHASES]
        for purchase_id, purchase in rows.purchases.items():
            yield Outgoing(topic, purchase_id.encode(), encode(purchase), WRITTEN)
        topic = changelogs[topics.CREDIT_ADJUSTMENTS]
        for adjustment_id, adjustment in rows.adjustments.items():
            yield Outgoing(topic, adjustment_id.encode(), encode(adjustment), WRITTEN)
        topic = changelogs[topics.IDEMPOTENCY_KEYS]
        for merchant_id, answers in rows.answers_changed.items():
            for key, answer in answers.items():
                name = codecs.answer_key(merchant_id, key).encode()
                yield Outgoing(topic, name, None if answer is None else encode(answer), WRITTEN)
        topic = changelogs[topics.SHOPS_TABLE]
        for shop, row in rows.shops.items():
            value = None if row is None else encode(row)
            yield Outgoing(topic, shop.encode(), value, WRITTEN)
        topic = changelogs[topics.CHARGES_TABLE]
        for key, charge in rows.charges.items():
            value = None if charge == NOTHING else encode(charge)
            yield Outgoing(topic, key.encode(), value, WRITTEN)

    def events(
        self, events: Iterable[Event], merchant_id: str, correlation_id: str, cause: str
    ) -> Iterator[Outgoing]:
        """The events of a decision; `cause` is the record or origin of its command."""
        key = merchant_id.encode()
        for event in events:
            topic, event_type = self.event_topics[event.data.kind]
            headers = (("sequence", b"%d" % event.sequence), ("cause", cause.encode()))
            value = schemas.encode_event(event, event_type, correlation_id)
            yield Outgoing(topic, key, value, headers=headers)

    def shops(self, shops: Iterable[ShopRegistered]) -> Iterator[Outgoing]:
        """The merchant of each shop that changed, for the partition of the shop."""
        for shop in shops:
            name = codecs.shop_key(shop.platform, shop.domain)
            partition = partition_of(name, self._partitions)
            yield Outgoing(self._shops, name.encode(), encode(shop), partition=partition)

    def registered(self, said: ChargeRegistered) -> Outgoing:
        """The registration of a charge, for the partition of the charge."""
        key = charge_key(said.platform, said.charge_id)
        partition = partition_of(key, self._partitions)
        return Outgoing(self._charges, key.encode(), encode(said), partition=partition)

    def forwarded(self, base: str, record: InputRecord, merchant_id: str) -> Outgoing:
        """A record of topic `base` (without prefix), for the partition that owns the merchant."""
        return Outgoing(
            self._commands,
            merchant_id.encode(),
            record.value,
            headers=forwarded_headers(base, record.headers, RecordRef.of(record)),
            partition=partition_of(merchant_id, self._partitions),
        )

    def journal(self, request: Request, now: datetime, positions: dict[str, int]) -> Outgoing:
        """The journal entry of a command that came from no topic."""
        entry = schemas.JournalEntry(
            command=request.command,
            origin=request.origin,
            correlation_id=request.correlation_id,
            now=now,
            positions=positions,
        )
        return Outgoing(self.journal_topic, request.command.merchant_id.encode(), encode(entry))

    def dead_letter(self, letter: DeadLetter) -> Outgoing:
        """A dead letter, under the key of its record."""
        return Outgoing(self._dead_letters, letter.key, encode(letter))
