"""The verifier and the replay know dead letters of webhooks over HTTP, and amounts as they came."""

import base64
import json
from typing import Any

import pytest

from billing_stream.engine.partition_processor import Outgoing
from billing_stream.engine.partitioner import partition_of
from billing_stream.records import schemas
from billing_stream.records import topics as names
from billing_stream.records.http_dead_letters import HttpDelivery, dead_letter_of_webhook
from tests.replaying.log import replayed, text
from tests.verify.redriven import LETTERS, note, redrive
from tests.verify.traffic import rich_world
from tests.verify.world import PARTITIONS, START, TOPICS, Copy, World, merchant_id

ONE = merchant_id(1)
OLD_REASON = "the amount is not a sum of money"


def add_letter(world: World, number: int, merchant: str | None) -> str:
    """Write a dead letter as a worker's ingress does; its reference."""
    delivery = HttpDelivery(
        platform="custom", delivery_id=f"d-{number}", kind="refunded", merchant_id=merchant
    )
    letter = dead_letter_of_webhook(
        delivery, b'{"amount": "x"}', "bad", correlation_id="c", now=START
    )
    partition = partition_of(merchant or delivery.delivery_id, PARTITIONS)
    world.log.append(LETTERS, partition, Outgoing(LETTERS, letter.key, schemas.encode(letter)))
    offset = len(world.log.topics[LETTERS, partition]) - 1
    return f"{LETTERS}[{partition}]@{offset}"


async def test_dead_letters_over_http_are_no_violation_and_can_be_redriven() -> None:
    world = await rich_world()
    redriven = add_letter(world, 1, ONE)
    discarded = add_letter(world, 2, None)
    add_letter(world, 2, None)
    refund = {"merchant_id": ONE, "charge_id": "unheard-of", "amount": "1.00"}
    redrive(world, redriven, refund, topic=names.PURCHASE_REFUNDED)
    note(world, discarded, None)
    await world.feed_all()

    copy = world.copy()
    report = await copy.verify()
    again = await replayed(copy)

    assert report.ok, "\n".join(report.lines())
    assert not again.differences, text(again)


@pytest.mark.parametrize("topic", [names.PURCHASE_REFUNDED, names.COMMANDS])
@pytest.mark.parametrize("amount", [9.99, "9.99000000", "1.50000000", 1])
async def test_amounts_are_read_as_the_lanes_read_them(topic: str, amount: Any) -> None:
    copy = await world_with_refund(topic, amount)

    report = await copy.verify()
    again = await replayed(copy)

    assert report.ok, "\n".join(report.lines())
    assert not again.differences, text(again)
    assert OLD_REASON not in str([letter.data for letter in copy.of(LETTERS)])


async def world_with_refund(topic: str, amount: Any) -> Copy:
    world = await rich_world()
    refund = {"command": "refund_charge", "merchant_id": ONE, "charge_id": "c", "amount": amount}
    world.send(topic, refund)
    await world.feed_all()
    return world.copy()


@pytest.mark.parametrize(
    ("topic", "amount", "reason"),
    [
        (names.PURCHASE_REFUNDED, "9.99000000", OLD_REASON),
        (names.COMMANDS, 9.99, "Expected `str | null`, got `float` - at `$.amount`"),
        (names.COMMANDS, "9.99000000", "Expected `str` matching regex '^x$' - at `$.amount`"),
    ],
)
async def test_what_an_older_release_diverted_for_its_amount_is_no_violation(
    topic: str, amount: Any, reason: str
) -> None:
    world = await rich_world()
    # As it is read today, it changes nothing; by the rules of its time it is a dead letter.
    known = {"merchant_id": ONE, "charge_id": 5}
    ref = world.send(topic, {"command": "refund_charge", **known})
    await world.feed_all()
    copy = world.copy()
    value = json.dumps({"command": "refund_charge", **known, "charge_id": "c", "amount": amount})
    (stored,) = [
        record
        for record in copy.of(TOPICS.name(topic))
        if (record.topic, record.partition, record.offset) == tuple(ref)
    ]
    stored.value = value.encode()
    (letter,) = [
        letter
        for letter in copy.of(LETTERS)
        if [letter.data[name] for name in ("topic", "partition", "offset")] == list(ref)
    ]
    encoded = base64.b64encode(value.encode()).decode()
    letter.put({**letter.data, "value": encoded, "reason": reason})

    report = await copy.verify()

    assert report.ok, "\n".join(report.lines())
