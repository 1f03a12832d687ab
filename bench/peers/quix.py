"""The same work on Quix Streams: state in its store, keyed by merchant, and its changelog.

Run by the Python of `.venv/bench` as `python -m bench.peers.quix`, with the environment of
a worker and QUIX_* for what is tuned. Bytes in and out of its serializers and its state, as
its documentation allows: msgspec is faster than the JSON it would use.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec

# Installed in an environment of its own, which mypy does not see.
from quixstreams import Application, State, message_context  # type: ignore[import-not-found]
from quixstreams.models import SerializationContext, Serializer  # type: ignore[import-not-found]
from quixstreams.state.memory import MemoryStore  # type: ignore[import-not-found]
from quixstreams.state.rocksdb import RocksDBOptions  # type: ignore[import-not-found]

from bench.peers import work
from bench.peers.work import PeerSetting
from billing_stream.domain.model import Instant, Merchant, Purchase, PurchaseStatus
from billing_stream.domain.outcomes import Decision
from billing_stream.records import schemas
from billing_stream.records.timestamps import instant

PENDING = PurchaseStatus.PENDING
MERCHANT, OPEN = "m", "open"


class MerchantRow(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What is stored of a merchant; `due` is the earliest expiry of what is pending, or earlier."""

    merchant: Merchant
    due: Instant | None = None


encode = msgspec.json.encode
_merchant = msgspec.json.Decoder(MerchantRow)
_purchase = msgspec.json.Decoder(Purchase)
_open = msgspec.json.Decoder(list[str])


class StateRows(work.NoAnswers):
    """One merchant's rows in the state of Quix Streams, which prefixes keys by merchant."""

    __slots__ = ("_due", "_state")

    def __init__(self, state: State) -> None:
        self._state = state
        self._due: datetime | None = None

    def merchant(self, merchant_id: str) -> Merchant | None:
        """The merchant's row."""
        found = self._state.get_bytes(MERCHANT)
        if found is None:
            return None
        row = _merchant.decode(found)
        self._due = row.due
        return row.merchant

    def purchase(self, purchase_id: str) -> Purchase | None:
        """The purchase."""
        found = self._state.get_bytes(purchase_id)
        return _purchase.decode(found) if found is not None else None

    def purchase_of_charge(self, merchant_id: str, charge_id: str) -> Purchase | None:
        """The merchant's purchase of this charge."""
        found = self._state.get_bytes(charge_id)
        return self.purchase(found.decode()) if found is not None else None

    def pending_until(self, merchant_id: str, moment: datetime) -> Iterable[Purchase]:
        """What has expired by `moment`, soonest first."""
        if self._due is None or self._due > moment:
            return ()
        pending = [p for p in map(self.purchase, self._opened()) if p and p.status is PENDING]
        pending.sort(key=lambda purchase: (purchase.expires_at, purchase.id))
        self._due = pending[0].expires_at if pending else None
        self._state.set_bytes(OPEN, encode([p.id for p in pending]))
        return [p for p in pending if p.expires_at <= moment]

    def add(self, decision: Decision) -> None:
        """Take what a decision changed."""
        for purchase in decision.purchases:
            if purchase.status is PENDING:
                self._add_open(purchase)
            self._state.set_bytes(purchase.id, encode(purchase))
        if decision.merchant is not None:
            self._state.set_bytes(MERCHANT, encode(MerchantRow(decision.merchant, self._due)))

    def _add_open(self, purchase: Purchase) -> None:
        if purchase.platform_charge_id is not None:
            self._state.set_bytes(purchase.platform_charge_id, purchase.id.encode())
            return
        self._state.set_bytes(OPEN, encode([*self._opened(), purchase.id]))
        if self._due is None or purchase.expires_at < self._due:
            self._due = purchase.expires_at

    def _opened(self) -> list[str]:
        found = self._state.get_bytes(OPEN)
        return _open.decode(found) if found is not None else []


class _Record:
    """A record, as the schemas read it."""

    __slots__ = ("headers", "key", "offset", "partition", "timestamp", "topic", "value")

    def __init__(self, value: bytes, key: bytes, timestamp: int) -> None:
        context = message_context()
        self.topic: str = context.topic
        self.partition: int = context.partition
        self.offset: int = context.offset
        self.timestamp = timestamp
        self.key: bytes | None = key
        self.value: bytes | None = value
        self.headers: schemas.Headers = ()


def handle(
    value: bytes, key: bytes, timestamp: int, headers: Any, state: State
) -> list[tuple[str, bytes]]:
    """The events of a record."""
    incoming = work.read(_Record(value, key, timestamp))
    decision = work.carry_out(StateRows(state), incoming, instant(timestamp))
    return work.events_of(decision, incoming)


class _EventBytes(Serializer):  # type: ignore[misc]
    """Takes the bytes of an event out of what `handle` gave."""

    def __call__(self, value: tuple[str, bytes], ctx: SerializationContext) -> bytes:
        return value[1]


def build(peer_setting: PeerSetting) -> Application:
    """The application, with its settings."""
    options = peer_setting.options
    app = Application(
        broker_address=peer_setting.kafka,
        consumer_group=f"{peer_setting.topics.prefix}quix",
        processing_guarantee=options["QUIX_GUARANTEE"],
        commit_interval=float(options["QUIX_COMMIT_INTERVAL"]),
        commit_every=int(options["QUIX_COMMIT_EVERY"]),
        auto_offset_reset="earliest",
        auto_create_topics=True,
        state_dir=f"{peer_setting.folder}-quix",
        loglevel="ERROR",
        consumer_poll_timeout=0.005,
        consumer_extra_config={
            "fetch.wait.max.ms": 10,
            "fetch.queue.backoff.ms": 5,
            "max.partition.fetch.bytes": 4 << 20,
            "queued.min.messages": 100_000,
            "session.timeout.ms": 6_000,
            "isolation.level": "read_committed",
        },
        producer_extra_config={
            "linger.ms": int(options["QUIX_LINGER_MS"]),
            "batch.size": 1 << 20,
            "batch.num.messages": 10_000,
            "queue.buffering.max.messages": 1_000_000,
            "compression.type": "none",
            "acks": "all",
        },
        rocksdb_options=RocksDBOptions(compression_type="none", write_buffer_size=64 << 20),
    )
    given = app.topic(peer_setting.input, key_deserializer="bytes", value_deserializer="bytes")
    taken = {
        kind: app.topic(name, key_serializer="bytes", value_serializer=_EventBytes())
        for kind, name in peer_setting.event_topics.items()
    }
    sdf = app.dataframe(given)
    if options["QUIX_STORE"] == "memory":
        sdf.register_store(store_type=MemoryStore)
    sdf = sdf.apply(handle, stateful=True, expand=True, metadata=True)
    sdf.to_topic(lambda event, key, timestamp, headers: taken[event[0]])
    return app


if __name__ == "__main__":
    work.configure_gc()
    build(PeerSetting.of_environment()).run()
