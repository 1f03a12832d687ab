"""Dead letters sent again, in a small log: what `billing-stream dlq` writes, written by hand."""

import json
from typing import Any

from billing_stream.engine.partition_processor import Outgoing
from billing_stream.records import topics as names
from tests.verify.world import START, TOPICS, World, merchant_id

LETTERS = TOPICS.name(names.DEAD_LETTERS)
LEDGER = TOPICS.name(names.DEAD_LETTER_ACTIONS)
FROM, TOPIC = "billing-redriven-from", "billing-forwarded-topic"


def letters(world: World, reason: str) -> list[str]:
    """The references of dead letters whose reason has this in it."""
    return [
        f"{topic}[{partition}]@{offset}"
        for (topic, partition), log in sorted(world.log.topics.items())
        if topic == LETTERS
        for offset, sent in enumerate(log)
        if reason in json.loads(sent.value or b"")["reason"]
    ]


def note(world: World, letter: str, target: str | None, *, again: bool = False) -> None:
    """Write an action into the ledger."""
    action = {
        "letter": letter,
        "action": "discarded" if target is None else "redriven",
        "by": "anna@ops",
        "at": START.isoformat(),
        "reason": "because",
        "target": target,
        "edited": False,
        "again": again,
    }
    partition = int(letter.partition("[")[2].partition("]")[0])
    world.log.append(
        LEDGER, partition, Outgoing(LEDGER, letter.encode(), json.dumps(action).encode())
    )


def redrive(
    world: World,
    letter: str,
    value: Any,
    *,
    line: str | None = None,
    topic: str | None = None,
    **more: Any,
) -> str:
    """Send a copy of a letter, and note it; where it is."""
    headers = {FROM: line or letter} | ({TOPIC: topic} if topic is not None else {})
    wrong = more.pop("wrong", False)
    target = world.send(names.COMMANDS, value, wrong=wrong, **headers)
    ref = f"{target[0]}[{target[1]}]@{target[2]}"
    note(world, letter, ref, **more)
    return ref


async def redriven_traffic(world: World) -> None:
    """Corrected, refused again and then not, twice, unclaimed, on a wrong partition, given up."""
    one, unknown = merchant_id(0), merchant_id(98)
    corrected = {"merchant_id": one, "charge_id": "c0-3", "status": "ACTIVE"}
    bad = letters(world, "malformed")[0]
    redrive(world, bad, corrected, topic=names.PURCHASE_UPDATED)
    trial = {"command": "start_trial", "merchant_id": unknown}
    refused = letters(world, "MERCHANT_NOT_FOUND")[0]
    redrive(world, refused, trial)
    await world.feed_all()
    (again,) = (one for one in letters(world, "MERCHANT_NOT_FOUND") if one != refused)
    created = {"merchant_id": unknown, "platform_name": "shopify", "domain": "late.x"}
    world.send(names.MERCHANT_CREATED, created)
    await world.feed_all()
    redrive(world, again, trial, line=refused)
    await world.feed_all()
    redrive(world, refused, trial, again=True)
    huge = letters(world, "INVALID_PACK")[0]
    reserve = {"command": "reserve_purchase", "pack": "small", "platform": "shopify"}
    redrive(world, huge, {**reserve, "merchant_id": merchant_id(2)}, wrong=True)
    await world.feed_all()
    redrive(world, huge, {**reserve, "merchant_id": merchant_id(2)}, again=True)
    unclaimed = letters(world, "never-heard-of")[0]
    webhook = {"merchant_id": merchant_id(99), "charge_id": "never-heard-of", "status": "active"}
    redrive(world, unclaimed, webhook, topic=names.PURCHASE_UPDATED)
    note(world, letters(world, "TRIAL_ALREADY_USED")[0], None)
    await world.feed_all()
    world.pass_time(hours=3)
    await world.tick()
    await world.feed_all()
