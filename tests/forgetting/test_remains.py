"""What a client or an operator chose freely is named among what is left of a merchant."""

import base64
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from billing_stream.ops.forget.residual_data import find
from billing_stream.records import topics as names
from billing_stream.records.topics import Topics
from tests.support.partition import Record

M1 = "11111111-1111-4111-8111-111111111111"
M2 = "22222222-2222-4222-8222-222222222222"
MADE = "0b1f6a5e-6c3d-4c58-9b77-2f6f4f0f6f11"
STARTED = names.event_type("trial.started")


class Log:
    """Records as a source gives them."""

    def __init__(self, *records: tuple[str, dict[str, Any]]) -> None:
        self._records = [
            Record(topic, offset, json.dumps(value).encode())
            for offset, (topic, value) in enumerate(records)
        ]

    async def read(self, topics: Sequence[str]) -> AsyncIterator[Sequence[Any]]:
        """Those of these topics."""
        yield [record for record in self._records if record.topic in topics]


def event(merchant: str, correlation_id: str) -> tuple[str, dict[str, Any]]:
    return STARTED, {"correlation_id": correlation_id, "data": {"merchant_id": merchant}}


def entry(merchant: str, key: str | None, correlation_id: str) -> tuple[str, dict[str, Any]]:
    command = {"command": "start_trial", "merchant_id": merchant, "idempotency_key": key}
    return names.JOURNAL, {"command": command, "correlation_id": correlation_id, "origin": "http"}


@pytest.mark.parametrize(
    ("record", "what"),
    [
        (event(M1, "anna-smith@anna.example"), ("correlation_id",)),
        (event(M1.upper(), "anna"), ("correlation_id",)),
        (event(M1, MADE), None),
        (event(M2, "anna"), None),
        (entry(M1, "order of anna", MADE), ("idempotency_key",)),
        (entry(M1, "order of anna", "anna"), ("correlation_id", "idempotency_key")),
        (entry(M1, None, MADE), None),
        (entry(M1, f"ops/{MADE}", MADE), None),
        (entry(M1, f"backfill/{MADE}/2", MADE), None),
        (entry(M1, f"{MADE} of anna", MADE), ("idempotency_key",)),
        ((names.COMMANDS, {"merchant_id": M1, "idempotency_key": "anna"}), ("idempotency_key",)),
        (
            (
                names.event_type("credits.adjusted"),
                {"data": {"merchant_id": M1, "merchant_note": "A"}},
            ),
            ("merchant_note",),
        ),
    ],
)
async def test_what_is_chosen_freely_is_named(
    record: tuple[str, dict[str, Any]], what: tuple[str, ...] | None
) -> None:
    found = await find(Log(record), Topics("app"), M1)

    assert [one.what for one in found] == ([] if what is None else [what])


@pytest.mark.parametrize(("merchant", "is_named"), [(M1, True), (M2, True), (MADE, False)])
async def test_refused_claim_of_a_shop_is_named_for_both_merchants(
    merchant: str, is_named: bool
) -> None:
    claim = {"platform": "shopify", "domain": "anna.example", "merchant_id": M1}
    held = base64.b64encode(json.dumps(claim).encode()).decode()
    letter = {
        "topic": names.SHOPS,
        "partition": 0,
        "offset": 7,
        "timestamp": "2026-01-01T00:00:00Z",
        "key": base64.b64encode(b"shopify:anna.example").decode(),
        "value": held,
        "headers": [],
        "reason": f"SHOP_TAKEN: merchant {M2} has it, with another platform_shop_id",
    }

    found = await find(Log((names.DEAD_LETTERS, letter)), Topics("app"), merchant)

    assert [one.what for one in found] == ([("a whole record",)] if is_named else [])
