"""Every release's rows are read as the present ones, and the present form does not drift."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from billing_stream.audit.replay.recorded_history import read_partition
from billing_stream.audit.verify.model_state import Rules
from billing_stream.audit.verify.verifier import verify_source
from billing_stream.domain.idempotency import NOT_KEPT
from billing_stream.domain.model import PurchaseStatus
from billing_stream.domain.policy import Policy
from billing_stream.engine.lanes import Lanes
from billing_stream.engine.partition_processor import Outgoing
from billing_stream.engine.partitioner import partition_of
from billing_stream.errors import NewerState, SettingsError
from billing_stream.processor import BillingLanes, BillingProcessor
from billing_stream.projector.projected_records import MerchantRow, PurchaseRow, Records
from billing_stream.records import topics as names
from billing_stream.records.upcasting.versions import STEPS, VERSION, WRITTEN, upcast
from billing_stream.tables.rows import PartitionRows
from tests.support.catalogue import CATALOGUE
from tests.support.memory_log import MemoryLog
from tests.support.partition import Deaths
from tests.upgrades.samples import (
    FOLDER,
    NEVER_IN_A_ROW,
    present_name,
    released,
    shape,
    shape_file,
    state_of,
    stored,
)
from tests.upgrades.scenario import (
    ANNA,
    BERT,
    CARL,
    DORA,
    EMIL,
    FAYE,
    PARTITIONS,
    TOPICS,
    Record,
    play,
    text,
)
from tests.verify.world import Copy, Stored

SAMPLES = sorted(path.stem for path in FOLDER.glob("*.jsonl"))
DAY_US = 86_400_000_000
RULES = Rules(14 * DAY_US, DAY_US, 262_144, catalogue=CATALOGUE)
LOST = "`make samples` before a release; git has those of the others, and they stay"


def memory_log(log: list[Record]) -> MemoryLog:
    """The sample as a log of the tests' own."""
    found = MemoryLog({table: TOPICS.changelog(table) for table in names.TABLES})
    for record in log:
        sent = Outgoing(record.topic, record.key, record.value, tuple(record.headers))
        found.append(record.topic, record.partition, sent)
    return found


@asynccontextmanager
async def taken_over(
    log: list[Record], currency: str | None = "EUR"
) -> AsyncIterator[BillingLanes]:
    """Lanes of this program that took over what the log says."""
    lanes = Lanes(
        memory_log(log),
        partial(
            BillingProcessor,
            partitions=PARTITIONS,
            policy=Policy(currency_of_old_rows=currency),
            names=TOPICS,
            max_record_bytes=100_000,
        ),
        positions_topic=TOPICS.changelog(names.BILLING_RECORDS),
        on_failure=Deaths(),
    )
    lanes.adopt(await lanes.restore(range(PARTITIONS)))
    try:
        yield lanes
    finally:
        await lanes.drop(list(lanes))


def rows_of(lanes: BillingLanes, merchant: str) -> PartitionRows:
    """The rows of the merchant's partition."""
    return lanes[partition_of(merchant, PARTITIONS)].processor.rows


def copied(log: list[Record]) -> Copy:
    """The sample as the verifier reads it."""
    copy = Copy()
    for record in log:
        stored_one = Stored(**vars(record))
        copy.logs.setdefault((record.topic, record.partition), []).append(stored_one)
    return copy


def newer(record: Record) -> Record:
    """The record as a release to come would write it."""
    return replace(record, headers=(("state", b"%d" % (VERSION + 1)),))


def test_every_release_has_its_sample() -> None:
    assert [version for version in released() if version not in SAMPLES] == [], LOST
    assert all(state_of(version) == {1} for version in ("0.1.0", "0.2.0", "0.3.0", "0.4.0"))


@pytest.mark.parametrize("version", SAMPLES)
async def test_rows_of_every_release_mean_what_they_meant(version: str) -> None:
    async with taken_over(stored(version)) as lanes:
        rows = rows_of(lanes, ANNA)
        anna = rows.merchants[ANNA]
        bought = {(p.status.value, p.credits): p for p in rows.purchases_of(ANNA)}
        back = bought["refunded", 500]
        assert (anna.total_credits_purchased, anna.balance) == (100, 100)
        assert (anna.trial_available, anna.trial_expired, anna.sequence) == (False, True, 9)
        assert len(rows.purchases_of(ANNA)) == 6
        assert sorted(status for status, _ in bought) == [
            *("completed", "expired", "failed", "refunded")
        ]
        assert (back.refunded_amount, back.refunded_credits) == ("39.99", 500)
        assert back.platform_charge_id == "charge-back"
        sold = {(p.currency, p.pack, p.test) for p in rows.purchases_of(ANNA)}
        new = {("USD", "small", False), ("USD", "medium", False)}
        assert sold == (new if max(state_of(version)) > 2 else {("EUR", None, False)})
        assert rows.purchase_of_charge(ANNA, "charge-paid") == bought["completed", 100]
        assert {answer.key for answer in rows.answers(ANNA)} >= {"expires-without-checkout"}

        bert = rows_of(lanes, BERT).merchants[BERT]
        assert bert.created_at is None
        assert [(p.charge_id, p.kind.value) for p in bert.parked] == [
            ("charge-unknown", "complete"),
            ("charge-unknown", "refund"),
        ]
        faye = rows_of(lanes, FAYE)
        (pending,) = faye.purchases_of(FAYE)
        assert (pending.status, pending.checkout_url) == (
            PurchaseStatus.PENDING,
            "https://pay.example/charge-faye",
        )
        assert faye.answer(FAYE, "faye-trial") is not None
        shops = {shop: m for p in lanes.values() for shop, m in _shops(p.processor).items()}
        assert shops["shopify:faye.example"] == FAYE
        positions = {topic for lane in lanes.values() for topic in lane.positions}
        assert positions >= {TOPICS.name(names.MERCHANT_CREATED), TOPICS.name(names.SHOPS)}


@pytest.mark.parametrize("version", [one for one in SAMPLES if one != "0.1.0"])
async def test_what_later_releases_added_is_read_too(version: str) -> None:
    async with taken_over(stored(version)) as lanes:
        rows = rows_of(lanes, CARL)
        (part,) = rows.purchases_of(CARL)
        assert (part.status, part.refunded_amount) == (PurchaseStatus.COMPLETED, "10.00")
        assert part.refunded_credits == 142
        if version == "0.2.0":
            return
        assert rows.merchants[CARL].balance == 1000 - 142 + 25
        assert [a.reason for a in rows.adjustments.values()] == ["with our apologies"]
        assert rows.redriven.get("sample.billing.commands.v1[0]@17") is not None
        assert rows_of(lanes, ANNA).merchants[ANNA].former_shops == ("shopify:anna.example",)
        assert rows_of(lanes, DORA).merchants[DORA].forgotten_at is not None
        assert rows_of(lanes, EMIL).merchants[EMIL].total_credits_purchased == 100


async def test_old_purchases_need_the_currency_that_they_had_and_new_ones_do_not() -> None:
    async with taken_over(stored(present_name()), currency=None):
        pass
    with pytest.raises(SettingsError, match="BILLING_CURRENCY_OF_OLD_ROWS is not set"):
        async with taken_over(stored("0.5.1"), currency=None):
            pass
    topic = TOPICS.changelog(names.CREDIT_PURCHASES)
    old = next(record for record in stored("0.5.1") if record.topic == topic)
    with pytest.raises(SettingsError, match="BILLING_CURRENCY_OF_OLD_ROWS=USD"):
        Records(TOPICS).decode(old)


async def test_a_purchase_from_before_is_paid_in_the_currency_it_had() -> None:
    async with taken_over(stored("0.5.1")) as lanes:
        partition = partition_of(FAYE, PARTITIONS)
        stage = lanes[partition].processor.begin()
        paid = {"merchant_id": FAYE, "charge_id": "charge-faye", "status": "active"}
        topic = TOPICS.name(names.PURCHASE_UPDATED)
        record = Record(topic, partition, 90, 1_767_300_000_000, b"", json.dumps(paid).encode(), [])
        stage.add_record(topic, record)
        out = {o.topic: o for o in stage.outgoing()}
        event = json.loads(out[TOPICS.name(names.event_type("credits.purchased"))].value or b"")
        row = json.loads(out[TOPICS.changelog(names.CREDIT_PURCHASES)].value or b"")
        assert (event["data"]["currency"], event["data"]["pack"]) == ("EUR", None)
        assert row["currency"] == "EUR"


async def test_a_refund_of_0_1_0_is_not_paid_back_again() -> None:
    async with taken_over(stored("0.1.0")) as lanes:
        processor = lanes[partition_of(ANNA, PARTITIONS)].processor
        stage = processor.begin()
        again = {"merchant_id": ANNA, "charge_id": "charge-back", "amount": "39.99"}
        topic = TOPICS.name(names.PURCHASE_REFUNDED)
        at = 1_790_000_000_000
        stage.add_record(topic, Record(topic, 1, 9, at, b"", json.dumps(again).encode(), []))
        told = [out for out in stage.outgoing() if "purchase.refunded" in out.topic]
        assert told == []


@pytest.mark.parametrize("version", SAMPLES)
async def test_the_verifier_finds_no_fault_in_the_log_of_any_release(version: str) -> None:
    report = await verify_source(copied(stored(version)), TOPICS, PARTITIONS, RULES)
    assert report.ok, "\n".join(report.lines())
    assert report.checks["tables"].counted >= 8


@pytest.mark.parametrize("version", SAMPLES)
def test_the_projector_reads_the_rows_of_every_release(version: str) -> None:
    records = Records(TOPICS, "EUR")
    log = [record for record in stored(version) if record.topic in records.topics]
    found = [records.decode(record) for record in log]
    merchants = {row.merchant_id: row for row in found if isinstance(row, MerchantRow)}
    purchases = {row.id: row for row in found if isinstance(row, PurchaseRow)}
    assert merchants[ANNA].total_credits_purchased == 100
    assert BERT not in merchants
    assert {p.status for p in purchases.values()} >= {"pending", "refunded", "expired", "failed"}
    currencies = {"USD"} if max(state_of(version)) > 2 else {"EUR"}
    assert {p.currency for p in purchases.values()} == currencies


def test_what_this_program_writes_is_as_it_was_kept() -> None:
    written = [text(record) for record in play()]
    kept = [text(record) for record in stored(present_name())]
    assert state_of(present_name()) == {VERSION}, "every changelog record carries its version"
    assert written == kept, (
        "rows or events are written in another form. Is it meant? Then see docs/upgrade.md: raise "
        "VERSION and add a step when rows changed, and run `make samples`"
    )


def test_a_row_gets_no_new_field_without_a_new_version() -> None:
    assert json.loads(shape_file(VERSION).read_text()) == shape(), (
        "an older worker drops a field that it does not know: raise VERSION in "
        "upcasting/versions.py, add a step, and run `make samples` (docs/upgrade.md)"
    )


def test_codes_left_out_of_the_shape_of_rows_are_never_stored() -> None:
    assert NEVER_IN_A_ROW <= NOT_KEPT


def test_there_is_a_step_from_every_version_to_the_next() -> None:
    assert sorted(STEPS) == list(range(1, VERSION))
    assert all(table in names.TABLES for steps in STEPS.values() for table in steps)


@pytest.mark.parametrize("version", SAMPLES)
def test_a_step_twice_is_a_step_once_and_leaves_its_row_alone(version: str) -> None:
    tables = {TOPICS.changelog(table): table for table in names.TABLES}
    changed = 0
    for record in stored(version):
        step = STEPS[1].get(tables.get(record.topic, ""))
        if step is None or record.value is None:
            continue
        row = json.loads(record.value)
        before = dict(row)
        once = step(row)
        assert (step(once), row) == (once, before)
        changed += once != before
    assert changed == (1 if version == "0.1.0" else 0)


def test_a_row_of_this_version_is_read_as_it_is_and_a_mark_as_it_was() -> None:
    refunded = b'{"status":"refunded","amount":"1","credits":5}'
    old = Record("t", 0, 0, 0, b"k", refunded, ())
    assert upcast(names.CREDIT_PURCHASES, replace(old, headers=WRITTEN)) is refunded
    assert b"refunded_credits" in (upcast(names.CREDIT_PURCHASES, old) or b"")
    assert upcast(names.CREDIT_PURCHASES, replace(old, key=b"\0mark/x", value=b"y")) == b"y"
    assert upcast(names.CREDIT_PURCHASES, replace(old, value=None)) is None


async def test_nobody_reads_the_rows_of_a_newer_release() -> None:
    log = stored(present_name())
    last = max(n for n, r in enumerate(log) if r.topic == TOPICS.changelog(names.CREDIT_PURCHASES))
    ref = f"{log[last].topic}[{log[last].partition}]@{log[last].offset}"
    log[last] = newer(log[last])

    with pytest.raises(NewerState, match=f"is of state version {VERSION + 1}") as raised:
        async with taken_over(log):
            pass
    assert str(raised.value).startswith(ref)
    with pytest.raises(NewerState, match="a newer release"):
        Records(TOPICS).decode(log[last])
    with pytest.raises(NewerState, match="verify with the release that runs"):
        await verify_source(copied(log), TOPICS, PARTITIONS, RULES)
    with pytest.raises(NewerState, match="a newer release"):
        await read_partition(Read(log), TOPICS, log[last].partition, PARTITIONS)
    strange = replace(log[last], headers=(("state", b"two"),))
    with pytest.raises(NewerState):
        upcast(names.CREDIT_PURCHASES, strange)


class Read:
    """A log as replay and explain read it."""

    def __init__(self, log: list[Record]) -> None:
        self._log = log
        self._read: set[str] = set()

    async def read(self, topics: Any, partition: int) -> AsyncIterator[list[Record]]:
        """See `replaying.source.Source`."""
        found = [r for r in self._log if r.topic in topics and r.partition == partition]
        yield [record for record in found if record.topic not in self._read]
        self._read.update(topics)


@pytest.mark.parametrize("version", SAMPLES)
async def test_replay_and_explain_read_the_rows_of_every_release(version: str) -> None:
    partition = partition_of(ANNA, PARTITIONS)
    history = await read_partition(Read(stored(version)), TOPICS, partition, PARTITIONS, ANNA)
    rows = [r.value for r in history.merchants[ANNA].rows if r.table == names.CREDIT_PURCHASES]
    refunded = [row for row in rows if row and row["status"] == "refunded"]
    assert [row["refunded_credits"] for row in refunded] == [500]


def _shops(processor: Any) -> dict[str, str]:
    return {key: shop.merchant_id for key, shop in processor.rows.shops.items()}
