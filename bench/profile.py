"""Where the time of one webhook record goes, stage by stage, without a broker."""

import time
from datetime import UTC, datetime
from typing import Any

from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from bench.load import charge
from billing_stream.domain.commands import AttachCharge, CreateMerchant, ReservePurchase
from billing_stream.domain.decide import decide
from billing_stream.domain.model import Platform
from billing_stream.domain.policy import Policy
from billing_stream.domain.state import State
from billing_stream.processor import BillingProcessor
from billing_stream.records import schemas
from billing_stream.records import topics as names
from billing_stream.records.schemas import encode
from billing_stream.records.topics import Topics
from billing_stream.tables.rows import StagedRows

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TOPICS = Topics("profile")
PER_COMMIT = 1_000


class _Record:
    def __init__(self, offset: int, key: bytes, value: bytes) -> None:
        self.topic = names.PURCHASE_UPDATED
        self.partition = 0
        self.offset = offset
        self.timestamp = int(NOW.timestamp() * 1000)
        self.key: bytes | None = key
        self.value: bytes | None = value
        self.headers: schemas.Headers = ()


def measure(records: int) -> dict[str, float]:
    """Microseconds a record, by stage."""
    processor = BillingProcessor(
        0, partitions=1, policy=Policy(), names=TOPICS, max_record_bytes=262_144
    )
    merchants = [f"00000000-0000-4000-8000-{n:012x}" for n in range(max(1, records // 10))]
    _prepare(processor, merchants, records)
    inputs = [
        _Record(n, m.encode(), _webhook(n, m))
        for n, m in ((n, merchants[n % len(merchants)]) for n in range(records))
    ]
    found = {"decode and validate": _time(lambda: [_decode(r) for r in inputs], records)}
    payload = [_decode(record) for record in inputs]
    found["decide (on staged rows)"] = _time(lambda: _decide(processor, payload), records)
    stages = []

    def whole() -> None:
        for start in range(0, records, PER_COMMIT):
            stage = processor.begin()
            for record in inputs[start : start + PER_COMMIT]:
                stage.add_record(names.PURCHASE_UPDATED, record)
            outgoing = list(stage.outgoing())
            stages.append((stage, outgoing))
            stage.apply()

    found["whole stage: decode, decide, encode, apply"] = _time(whole, records)
    written = [record for _, outgoing in stages for record in outgoing]
    found["append to batches"] = _time(lambda: _append(written), records)
    found["records written per record read"] = len(written) / records
    raw = _build([(r.key or b"", r.value or b"") for r in inputs])
    found["fetch: parse the record batches"] = _time(lambda: _parse(raw), records)
    return found


def _time(work: Any, records: int) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) / records * 1e6


def _webhook(number: int, merchant: str) -> bytes:
    data = {"merchant_id": merchant, "charge_id": charge(number), "status": "ACTIVE"}
    return encode({"event_id": "e", "event_type": "t", "correlation_id": "c", "data": data})


def _decode(record: _Record) -> Any:
    return schemas.decode(names.PURCHASE_UPDATED, record, 262_144).payload


def _decide(processor: BillingProcessor, payload: list[Any]) -> None:
    for start in range(0, len(payload), PER_COMMIT):
        rows = StagedRows(processor.rows)
        for command in payload[start : start + PER_COMMIT]:
            state = State.of(processor.policy, rows, command.merchant_id)
            rows.add(decide(state, command, NOW))


def _prepare(processor: BillingProcessor, merchants: list[str], records: int) -> None:
    rows = StagedRows(processor.rows)

    def do(command: Any) -> Any:
        decision = decide(State.of(processor.policy, rows, command.merchant_id), command, NOW)
        rows.add(decision)
        return decision.reply

    for merchant in merchants:
        do(CreateMerchant(merchant, "shopify", f"{merchant}.example"))
    for n in range(records):
        merchant = merchants[n % len(merchants)]
        reply = do(ReservePurchase(merchant, "small", Platform.SHOPIFY, command_id=str(n)))
        do(AttachCharge(merchant, reply.purchase_id, charge(n), "https://pay.example"))
    rows.apply()


def _append(written: list[Any]) -> None:
    builder = _builder()
    for record in written:
        headers = list(record.headers)
        if builder.append(0, None, record.key, record.value, headers) is None:
            builder = _builder()
            builder.append(0, None, record.key, record.value, headers)


def _builder() -> Any:
    return DefaultRecordBatchBuilder(2, 0, 1, -1, -1, 0, 1 << 20)


def _build(records: list[tuple[bytes, bytes]]) -> list[bytes]:
    batches = []
    for start in range(0, len(records), PER_COMMIT):
        builder = _builder()
        for offset, (key, value) in enumerate(records[start : start + PER_COMMIT]):
            builder.append(offset, None, key, value, [])
        batches.append(bytes(builder.build()))
    return batches


def _parse(batches: list[bytes]) -> None:
    for batch in batches:
        for record in DefaultRecordBatch(batch):
            _ = (record.offset, record.key, record.value, record.headers)
