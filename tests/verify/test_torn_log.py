"""A log with a torn transaction, as 0.5.1 could write it, is still found to be wrong.

The sample has what was committed by a worker of 0.5.1 in `make chaos FAULT=late`, with produce
requests of 2 KiB so that few records make a transaction of several: a late EndTxn committed the
positions and rows of 8 payments, and neither the rest of their rows nor any of their events.
"""

import gzip
from datetime import timedelta
from pathlib import Path

from billing_stream.audit.verify.log_records import duration_us
from billing_stream.audit.verify.model_state import Rules
from billing_stream.audit.verify.verifier import verify_source
from billing_stream.audit.verify.verify_report import Report
from billing_stream.records import topics as names
from billing_stream.records.topics import Topics
from tests.support.catalogue import CATALOGUE
from tests.upgrades.scenario import read
from tests.verify.world import Copy, Stored

SAMPLE = Path(__file__).parent / "samples" / "torn-0.5.1.jsonl.gz"
TOPICS = Topics("billing-stream", "late1.")
RULES = Rules(
    duration_us(timedelta(days=14)), duration_us(timedelta(hours=24)), 262_144, catalogue=CATALOGUE
)
TORN = 8


def sample() -> Copy:
    copy = Copy()
    for line in gzip.decompress(SAMPLE.read_bytes()).decode().splitlines():
        record = Stored(**vars(read(line)))
        copy.logs.setdefault((record.topic, record.partition), []).append(record)
    return copy


async def verified(copy: Copy) -> Report:
    return await verify_source(copy, TOPICS, 1, RULES)


async def test_a_torn_log_of_an_older_release_is_found_by_verify() -> None:
    report = await verified(sample())

    assert not report.ok
    found = {name: check.faults for name, check in report.checks.items() if check.faults}
    assert found["positions"] == found["outcomes"] == TORN
    assert {"credits", "sequences"} <= found.keys()
    assert any("not proved" in note for note in report.notes)


async def test_the_sample_is_good_up_to_the_torn_transaction() -> None:
    copy = sample()
    payments = copy.of(TOPICS.name(names.PURCHASE_UPDATED))
    events = copy.of(TOPICS.name(names.event_type("credits.purchased")))

    assert len(payments) - len(events) == TORN
    # Its other payments: nothing is wrong with their merchants.
    report = await verified(copy)
    wrong = {example.merchant for check in report.checks.values() for example in check.examples}
    owners = {record.data["data"]["merchant_id"] for record in payments}
    assert len(owners - wrong) == len(owners) - 3
