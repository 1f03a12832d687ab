"""Commands in records, records in blocks, and which blocks were sent."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from billing_stream.domain.commands import Command, ImportMerchant, OldPurchase
from billing_stream.domain.model import Platform
from billing_stream.migration.checkpoint import Checkpoint
from billing_stream.migration.migration_errors import ImportFailed
from billing_stream.migration.sending import Block, records_of
from billing_stream.records.json_schemas import components
from billing_stream.records.schemas import decode
from billing_stream.records.topics import COMMANDS
from tests.support.partition import record

M = "0b1f6a5e-6c3d-4c58-9b77-2f6f4f0f6f11"
MADE = datetime(2024, 5, 1, 10, tzinfo=UTC)


def command(purchases: int) -> ImportMerchant:
    """A merchant with so many purchases."""
    return ImportMerchant(
        merchant_id=M,
        created_at=MADE,
        purchases=tuple(
            OldPurchase(
                id=f"5f0c8a52-0f0e-4d0e-8d0c-{number:012}",
                credits=100,
                amount="9.99",
                status="completed",
                platform=Platform.SHOPIFY,
                platform_charge_id="c" * 255,
                created_at=MADE,
                completed_at=MADE,
                expires_at=MADE + timedelta(days=1),
            )
            for number in range(purchases)
        ),
    )


def read_back(raw: bytes, bytes_max: int) -> ImportMerchant:
    payload: Command = decode(COMMANDS, record(COMMANDS, 0, raw), bytes_max).payload  # type: ignore[assignment]
    assert isinstance(payload, ImportMerchant)
    return payload


@pytest.mark.parametrize(("purchases", "bytes_max"), [(0, 262_144), (250, 262_144), (30, 2_048)])
def test_a_merchant_is_in_as_many_records_as_it_takes(purchases: int, bytes_max: int) -> None:
    whole = command(purchases)

    records = list(records_of(whole, bytes_max))

    found = [read_back(raw, bytes_max) for raw in records]
    assert all(len(raw) <= bytes_max for raw in records)
    assert [old for part in found for old in part.purchases] == list(whole.purchases)
    assert {part.created_at for part in found} == {MADE}
    assert len(records) >= max(1, purchases / 100)


def test_a_purchase_that_fits_no_record_says_so() -> None:
    with pytest.raises(ImportFailed, match="BILLING_MAX_RECORD_BYTES"):
        list(records_of(command(1), 300))


def test_the_schema_of_a_command_says_how_many_purchases_it_may_have() -> None:
    _, named = components((ImportMerchant,), "#/{name}")

    assert named["ImportMerchant"]["properties"]["purchases"]["maxItems"] == 100


def block(*records: bytes) -> Block:
    made = Block("0b")
    for raw in records:
        made.add(M, raw)
    return made


def test_a_block_that_was_acknowledged_is_not_sent_again(tmp_path: Path) -> None:
    Checkpoint.of(tmp_path, "source", "target").add(block(b"one", b"two"), {3: 17})

    later = Checkpoint.of(tmp_path, "source", "target")

    assert later.ends(block(b"one", b"two")) == {3: 17}
    assert Checkpoint.of(tmp_path, "source", "another").ends(block(b"one", b"two")) is None


def test_a_block_that_changed_meanwhile_is_sent_again(tmp_path: Path) -> None:
    Checkpoint.of(tmp_path, "s").add(block(b"one", b"two"), {3: 17})

    assert Checkpoint.of(tmp_path, "s").ends(block(b"one", b"two", b"three")) is None
    assert Checkpoint.of(tmp_path, "s").ends(block(b"two", b"one")) is None


def test_half_a_line_of_a_killed_process_counts_for_nothing(tmp_path: Path) -> None:
    checkpoint = Checkpoint.of(tmp_path, "s")
    checkpoint.add(block(b"one"), {0: 1})
    with checkpoint.path.open("a") as file:
        file.write(json.dumps({"block": "0c", "digest": "d", "ends": {"0": 9}})[:25])

    assert Checkpoint.of(tmp_path, "s").ends(block(b"one")) == {0: 1}
    Checkpoint.of(tmp_path, "s").clear()
    assert Checkpoint.of(tmp_path, "s").ends(block(b"one")) is None
