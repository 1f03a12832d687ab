"""Records of a transaction decoded ahead, so that a store on the disk reads their rows at once."""

from collections.abc import Sequence

from billing_stream.domain.outcomes import ShopRegistered
from billing_stream.errors import InvalidRecord
from billing_stream.records import schemas
from billing_stream.records.operator_commands import OperatorCommand
from billing_stream.records.schemas import DecodedRecord, InputRecord
from billing_stream.tables.rows import charge_key
from billing_stream.tables.store import Store


class Prefetch:
    """What was decoded ahead, by topic and offset, until it is taken."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._found: dict[tuple[str, int], DecodedRecord] = {}

    def add(
        self, topic: str, base: str, records: Sequence[InputRecord], max_record_bytes: int
    ) -> None:
        """Decode records of `topic` and have the store fetch the rows that they name.

        `base` is the topic without its prefix. What makes no sense is left: it is decoded again
        by whoever writes its dead letter.
        """
        merchants, charges, purchases = set(), set(), set()
        for record in records:
            try:
                incoming = schemas.decode(base, record, max_record_bytes)
            except InvalidRecord:
                continue
            self._found[topic, record.offset] = incoming
            payload = incoming.payload
            if isinstance(payload, ShopRegistered | OperatorCommand):
                continue
            merchants.add(payload.merchant_id)
            charge_id = getattr(payload, "charge_id", None)
            if charge_id is not None:
                charges.add(charge_key(payload.merchant_id, charge_id))
            purchase_id = getattr(payload, "purchase_id", None)
            if purchase_id is not None:
                purchases.add(purchase_id)
        self._store.prefetch(merchants, charges, purchases)

    def take(self, topic: str, record: InputRecord) -> DecodedRecord | None:
        """The record decoded, or None when it was not, or made no sense."""
        return self._found.pop((topic, record.offset), None)
