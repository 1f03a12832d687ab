"""Dead letters of webhooks over HTTP: how they are shown, found, and what is sent of them."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from billing_stream.domain.commands import ForgetMerchant, RefundCharge, UpdateCharge
from billing_stream.engine.partitioner import partition_of
from billing_stream.ops.dead_letters import Cluster, DeadLetterEntry, DeadLetterHistory, Filters
from billing_stream.ops.dead_letters.action_log import State
from billing_stream.ops.dead_letters.entries import letter_of
from billing_stream.ops.dead_letters.redrive_records import NotRedrivable, copy_of
from billing_stream.ops.dead_letters.showing import as_json, table, whole
from billing_stream.records import schemas, topics
from billing_stream.records.http_dead_letters import HttpDelivery, dead_letter_of_webhook
from billing_stream.records.topics import Topics
from tests.support import signed_webhooks as sent
from tests.support.partition import Record
from tests.support.world import M1, M2

NOW = datetime(2026, 3, 1, tzinfo=UTC)
# Nothing of it is read where the webhook names its merchant.
CLUSTER = Cluster({}, Topics("app", "x."), 4)
PAID = {"charge_id": "c-1", "merchant_id": M1, "status": "active"}
REFUND = {"kind": "refunded", "charge_id": "c-1", "merchant_id": M1, "amount": "1.50"}


def letter(
    body: Any, *, platform: str = "custom", kind: str | None = "updated", shop: str | None = None
) -> DeadLetterEntry:
    """A dead letter as it is read from its topic."""
    delivery = HttpDelivery(
        platform=platform, delivery_id="d-1", kind=kind, shop=shop, merchant_id=M1
    )
    found = dead_letter_of_webhook(
        delivery, sent.raw(body), "`amount` is bad", correlation_id="c", now=NOW
    )
    record = Record("x.dlq.billing.v1", 17, schemas.encode(found), M1.encode(), partition=3)
    return letter_of(record)


async def command(entry: DeadLetterEntry, value: Any = None) -> Any:
    """The command that a lane reads of the copy."""
    copy = await copy_of(CLUSTER, entry, value=None if value is None else sent.raw(value))
    assert copy.partition == partition_of(copy.key.decode() if copy.key else "", 4)
    record = Record("x.billing.commands.v1", 5, copy.value, copy.key, headers=copy.headers)
    decoded = schemas.decode(topics.COMMANDS, record, 100_000)
    assert decoded.redriven_from == entry.ref
    assert decoded.correlation_id
    return decoded.payload


async def test_a_refund_is_redriven_as_a_refund() -> None:
    (found,) = [await command(letter(REFUND, kind="refunded"))]

    assert found == RefundCharge(M1, "c-1", "x.billing.commands.v1[0]@5", None, "1.50")


@pytest.mark.parametrize("kind", ["updated", "refunded", None])
async def test_a_corrected_body_may_name_its_kind(kind: str | None) -> None:
    entry = letter({"kind": "?"}, kind=kind)

    assert isinstance(await command(entry, REFUND), RefundCharge)
    assert isinstance(await command(entry, {**PAID, "kind": "updated"}), UpdateCharge)


@pytest.mark.parametrize("platform", ["custom", "stripe", "shopify"])
async def test_the_payload_of_a_refund_needs_no_status(platform: str) -> None:
    entry = letter({"x": 5}, platform=platform, kind="refunded")
    payload = {"merchant_id": M1.upper(), "charge_id": "c-1", "purchase_id": M2, "amount": 2}

    found = await command(entry, payload)

    assert (found.purchase_id, found.amount) == (M2, "2")


@pytest.mark.parametrize("platform", ["custom", "stripe", "shopify"])
async def test_any_command_may_be_sent_in_place_of_the_body(platform: str) -> None:
    entry = letter({"x": 5}, platform=platform)
    for name, kind in (("forget_merchant", ForgetMerchant), ("refund_charge", RefundCharge)):
        value = {"command": name, "merchant_id": M1, "charge_id": "c-1"}
        assert isinstance(await command(entry, value), kind)


async def test_the_corrected_body_of_stripe_is_read_as_stripe_does() -> None:
    charge = {
        "id": "ch_1",
        "payment_intent": "pi_1",
        "amount_refunded": 999,
        "currency": "jpy",
        "metadata": {"merchant_id": M1},
    }
    entry = letter({"type": "charge.refunded"}, platform="stripe", kind="refunded")

    found = await command(entry, sent.event("charge.refunded", charge))

    assert (found.charge_id, found.amount) == ("pi_1", "999")


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({**REFUND, "amount": "x"}, "`amount` must be a decimal number"),
        ({**REFUND, "merchant_id": 5}, "`merchant_id` must be text, not a whole number"),
        ({**PAID, "status": None}, "`status` is missing"),
        ({"command": "refund_charge", "merchant_id": M1}, "missing required field `charge_id`"),
        (b"not JSON", "the body is not a JSON object"),
    ],
)
async def test_what_would_be_a_dead_letter_again_is_left_alone(value: Any, why: str) -> None:
    for entry, edited in ((letter(value), None), (letter({}), sent.raw(value))):
        with pytest.raises(NotRedrivable, match="would be a dead letter again") as raised:
            await copy_of(CLUSTER, entry, value=edited)
        assert why in str(raised.value)

    forced = await copy_of(CLUSTER, letter(value), force=True)
    assert forced.partition == partition_of(M1, 4)


def test_it_is_shown_with_platform_delivery_and_merchant() -> None:
    entry = letter(REFUND, kind="refunded", shop="one.example")
    found = DeadLetterHistory(entry, State.OPEN, (), None)

    shown = as_json(found)
    text = "\n".join((*table([found]), *whole(found, [])))

    assert shown["record"]["place"] == "http:custom/d-1"
    assert (shown["record"]["topic"], shown["merchant_id"]) == ("http:custom", M1)
    assert json.loads(shown["record"]["value"]) == REFUND
    assert "http:custom/d-1" in text
    assert "header       kind: refunded" in text
    assert "header       shop: one.example" in text
    assert Filters(topic="http:custom", merchant=M1).matches(entry, State.OPEN, "x.")
    assert not Filters(topic="http:stripe").matches(entry, State.OPEN, "x.")
