"""What records may look like, beyond what the lanes' tests show."""

import json
from typing import Any

import pytest

from billing_stream.domain.commands import FailPurchase, RefundCharge
from billing_stream.errors import InvalidRecord
from billing_stream.records import topics
from billing_stream.records.schemas import decode
from tests.support.partition import record
from tests.support.world import M1, M2


def read(topic: str, value: Any) -> Any:
    return decode(topic, record(topic, 7, value), 100_000).payload


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("9.99", "9.99"),
        (9.99, "9.99"),
        (10, "10"),
        ("9.990", "9.990"),
        ("9.99000000", "9.99"),
        ("10.0000000", "10"),
        ("0.000001", "0.000001"),
        (None, None),
    ],
)
@pytest.mark.parametrize("topic", [topics.PURCHASE_REFUNDED, topics.COMMANDS])
def test_the_amount_of_a_refund_is_a_number_or_text_and_stays_exact(
    topic: str, amount: Any, text: str | None
) -> None:
    value = {"merchant_id": M1, "charge_id": "c", "amount": amount, "purchase_id": M2.upper()}

    payload = read(topic, {"command": "refund_charge", **value})

    assert payload == RefundCharge(M1, "c", f"{topic}[0]@7", M2.lower(), text)


@pytest.mark.parametrize(
    "amount", ["NaN", "-1", "1e999999", 1e30, "Infinity", "0.0000001", "9.99000001", "x", True]
)
@pytest.mark.parametrize("topic", [topics.PURCHASE_REFUNDED, topics.COMMANDS])
def test_what_is_no_sum_of_money_is_a_dead_letter(topic: str, amount: Any) -> None:
    value = {"command": "refund_charge", "merchant_id": M1, "charge_id": "c", "amount": amount}
    with pytest.raises(InvalidRecord):
        read(topic, value)


def test_ids_in_commands_are_read_in_any_letter_case() -> None:
    value = {
        "command": "fail_purchase",
        "merchant_id": M1.upper(),
        "purchase_id": "ABCDEF00-0000-4000-8000-00000000000A",
        "reason": "no",
    }

    payload = read(topics.COMMANDS, value)

    assert isinstance(payload, FailPurchase)
    assert payload.purchase_id == "abcdef00-0000-4000-8000-00000000000a"
    assert payload.merchant_id == M1.lower()


def test_a_nul_character_is_a_dead_letter_but_its_escape_as_text_is_not() -> None:
    good = {"merchant_id": M1, "charge_id": "c", "status": "a\\u0000"}

    assert read(topics.PURCHASE_UPDATED, good).status == "a\\u0000"
    with pytest.raises(InvalidRecord, match="charge_id contains a NUL"):
        read(topics.PURCHASE_UPDATED, json.dumps({**good, "charge_id": "c\0"}).encode())
