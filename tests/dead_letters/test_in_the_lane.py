"""Copies of a dead letter in a lane on a log in memory: one is carried out, whatever it asks."""

import base64
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from billing_stream.domain.commands import Command
from billing_stream.domain.policy import Policy
from billing_stream.domain.reports import ParkedWebhook
from billing_stream.records import forwarding
from billing_stream.records import topics as names
from tests.support.partition import Partition, record
from tests.support.world import CHECKOUT, M1

LETTER = f"{names.DEAD_LETTERS}[0]@3"
OTHER = f"{names.DEAD_LETTERS}[0]@4"
CREATE = {"command": "create_merchant", "platform": "shopify", "domain": "new.example"}
MERCHANT = {"merchant_id": M1, "platform_name": "shopify", "domain": "old.example"}
# What a second time would do again, were it not for the letter: each is sent between the copies.
UNDONE_BY = {
    "create_merchant": MERCHANT,
    "forget_merchant": MERCHANT,
}


class Scene:
    """A partition with a merchant; commands get the next offsets."""

    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self.offset = 0
        self.created = 0

    async def create(self) -> None:
        """The merchant installs the app (again)."""
        await self.partition.feed(record(names.MERCHANT_CREATED, self.created, MERCHANT))
        self.created += 1

    async def send(self, value: Any, letter: str | None = None, topic: str | None = None) -> str:
        """A record of the topic of commands; its reference."""
        headers: list[tuple[str, bytes]] = []
        if letter is not None:
            headers.append((forwarding.REDRIVEN_FROM, letter.encode()))
        if topic is not None:
            headers.append((forwarding.FORWARDED_TOPIC, topic.encode()))
        sent = record(names.COMMANDS, self.offset, value, headers=headers)
        sent.timestamp = int(self.partition.now.timestamp() * 1000)
        await self.partition.feed(sent)
        self.offset += 1
        return f"{names.COMMANDS}[0]@{self.offset - 1}"

    async def restart(self) -> None:
        """Another owner."""
        await self.partition.lanes.drop([0])
        await self.partition.restart()

    def money(self) -> Any:
        """What counts: rows but for positions, and events."""
        rows = self.partition.rows()
        events = [r.value for kind in names.EVENT_TYPES for r in self.events(kind)]
        return rows["merchants"], rows["purchases"], rows["answers"], rows["shops"], events

    def events(self, kind: str) -> Sequence[Any]:
        """The records of a kind of event."""
        return self.partition.log.read(names.event_type(kind))

    def reasons(self) -> list[str]:
        """Why there are dead letters."""
        return [letter["reason"] for letter in self.partition.dead_letters()]


@pytest_asyncio.fixture
async def scene() -> Scene:
    found = Scene(await Partition(Policy(test_clock=True)).restart())
    await found.create()
    return found


async def purchase(scene: Scene, charge: str | None = None) -> str:
    """A pending purchase, with a charge if one is given; its id."""
    before = set(scene.partition.processor.rows.purchases)
    await scene.send(command("reserve_purchase", pack="small", platform="shopify"))
    (opened,) = set(scene.partition.processor.rows.purchases) - before
    if charge is not None:
        attach = command(
            "attach_charge", purchase_id=opened, charge_id=charge, checkout_url=CHECKOUT
        )
        await scene.send(attach)
    return opened


def command(name: str, **fields: Any) -> dict[str, Any]:
    return {"command": name, "merchant_id": M1, **fields}


async def asked(scene: Scene, name: str) -> dict[str, Any]:
    """A command of this kind that is carried out when it comes first."""
    if name == "create_merchant":
        return {**CREATE, "merchant_id": M1}
    if name == "reserve_purchase":
        return command(name, pack="small", platform="shopify")
    if name == "attach_charge":
        opened = await purchase(scene)
        return command(name, purchase_id=opened, charge_id="c", checkout_url=CHECKOUT)
    if name == "fail_purchase":
        return command(name, purchase_id=await purchase(scene), reason="down")
    if name == "update_charge":
        await purchase(scene, "c")
        return command(name, charge_id="c", status="active")
    if name == "refund_charge":
        await purchase(scene, "c")
        return command(name, charge_id="c", amount="4.00")
    if name == "fail_refund":
        await purchase(scene, "c")
        return command(name, charge_id="c", refund_id="r", amount="4.00")
    if name == "dispute_charge":
        await purchase(scene, "c")
        return command(name, charge_id="c", dispute_id="d", status="withdrawn", amount="4.00")
    if name == "answer_trial_claim":
        return command(name, shop="shopify:#7", granted=True)
    if name == "adjust_credits":
        return command(name, credits=5, reason="gift", idempotency_key="k")
    if name == "move_clock":
        return command(name, to=(scene.partition.now + timedelta(days=15)).isoformat())
    if name == "import_merchant":
        return command(name, created_at="2025-01-01T00:00:00Z", purchases=[old_purchase()])
    return command(name)


def old_purchase() -> dict[str, Any]:
    return {
        "id": "77777777-7777-4777-8777-777777777777",
        "credits": 100,
        "amount": "9.99",
        "status": "completed",
        "platform": "shopify",
        "created_at": "2025-01-01T00:00:00Z",
        "expires_at": "2025-01-02T00:00:00Z",
        "completed_at": "2025-01-01T01:00:00Z",
        "platform_charge_id": "old",
    }


# Extensions come by the topic of operators only.
KINDS = sorted(
    {kind.__struct_config__.tag for kind in Command.__args__} - {"extend_trial", "set_shop"}
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("restarted", [False, True])
async def test_of_two_copies_one_is_carried_out(scene: Scene, kind: str, restarted: bool) -> None:
    value = await asked(scene, kind)
    first = await scene.send(value, LETTER)
    if kind in UNDONE_BY:
        await scene.create()
    if restarted:
        await scene.restart()
    before = scene.money()

    await scene.send(value, LETTER)

    assert scene.money() == before
    assert scene.reasons() == [f"ALREADY_REDRIVEN: {LETTER} was carried out as {first}"]


async def test_of_two_copies_in_one_transaction_one_is_carried_out(scene: Scene) -> None:
    headers = [(forwarding.REDRIVEN_FROM, LETTER.encode())]
    value = command("reserve_purchase", pack="small", platform="shopify")
    copies = [record(names.COMMANDS, offset, value, headers=headers) for offset in (0, 1)]

    await scene.partition.feed(*copies)

    assert len(scene.partition.processor.rows.purchases) == 1
    assert len(scene.reasons()) == 1


async def test_copies_of_two_letters_are_two_commands(scene: Scene) -> None:
    value = command("reserve_purchase", pack="small", platform="shopify")

    await scene.send(value, LETTER)
    await scene.send(value, OTHER)

    assert len(scene.partition.processor.rows.purchases) == 2
    assert scene.reasons() == []


async def test_a_copy_that_is_refused_leaves_the_letter_to_be_carried_out_later() -> None:
    scene = Scene(await Partition().restart())
    await scene.send(command("start_trial"), LETTER)
    (refused,) = scene.partition.dead_letters()
    await scene.create()

    second = await scene.send(command("start_trial"), LETTER)
    await scene.send(command("start_trial"), LETTER)

    assert refused["reason"].startswith("MERCHANT_NOT_FOUND")
    assert (
        dict(refused["headers"])[forwarding.REDRIVEN_FROM]
        == base64.b64encode(LETTER.encode()).decode()
    )
    assert len(scene.events("trial.started")) == 1
    assert scene.reasons()[1:] == [f"ALREADY_REDRIVEN: {LETTER} was carried out as {second}"]


async def test_a_copy_that_makes_no_sense_is_a_dead_letter_that_names_the_first(
    scene: Scene,
) -> None:
    await scene.send(b"{", LETTER, names.PURCHASE_UPDATED)

    (letter,) = scene.partition.dead_letters()
    headers = {name: base64.b64decode(held).decode() for name, held in letter["headers"]}
    assert headers[forwarding.REDRIVEN_FROM] == LETTER
    assert headers[forwarding.FORWARDED_TOPIC] == names.PURCHASE_UPDATED


async def test_a_crash_before_the_commit_forgets_that_a_copy_was_carried_out(
    scene: Scene,
) -> None:
    scene.partition.writer.crash_before_commit = True
    copy = record(
        names.COMMANDS,
        0,
        command("start_trial"),
        headers=[(forwarding.REDRIVEN_FROM, LETTER.encode())],
    )
    await scene.partition.feed(copy)
    scene.partition.deaths.causes.clear()
    await scene.partition.restart()

    await scene.partition.feed(copy)

    assert len(scene.events("trial.started")) == 1
    assert scene.reasons() == []


async def test_nonsense_in_the_header_is_not_kept_for_ever(scene: Scene) -> None:
    for _ in range(2):
        await scene.send(command("reserve_purchase", pack="small", platform="shopify"), "x" * 301)

    assert len(scene.partition.processor.rows.purchases) == 2
    assert scene.partition.processor.rows.redriven.get("x" * 301) is None


WEBHOOKS = {
    names.PURCHASE_UPDATED: {"merchant_id": M1, "charge_id": "c", "status": "ACTIVE"},
    names.PURCHASE_REFUNDED: {
        "merchant_id": M1,
        "charge_id": "c",
        "amount": "4.00",
        "purchase_id": "77777777-7777-4777-8777-777777777777",
    },
}


@pytest.mark.parametrize("topic", list(WEBHOOKS))
@pytest.mark.parametrize("way", ["itself", "forwarded", "command"])
async def test_the_letter_of_an_unclaimed_webhook_says_all_of_it(
    scene: Scene, topic: str, way: str
) -> None:
    said = WEBHOOKS[topic]
    if way == "itself":
        await scene.partition.feed(record(topic, 0, said))
    elif way == "forwarded":
        await scene.send(said, topic=topic)
    else:
        name = "update_charge" if topic == names.PURCHASE_UPDATED else "refund_charge"
        await scene.send({"command": name, **said})
    (parked,) = scene.partition.processor.rows.merchants[M1].parked
    scene.partition.now += timedelta(days=2)
    scene.partition.lane.wake_if_due()
    await scene.send(command("pass_time"))

    (letter,) = scene.partition.dead_letters()
    again = base64.b64decode(letter["value"])
    other = Scene(await Partition().restart())
    await other.partition.feed(record(letter["topic"], 0, again))
    (parked_again,) = other.partition.processor.rows.merchants[M1].parked

    assert letter["topic"] == (topic if way == "itself" else names.COMMANDS)
    assert letter["headers"] == []
    assert said_of(parked_again) == said_of(parked)
    assert parked.purchase_id == said.get("purchase_id")


def said_of(parked: ParkedWebhook) -> tuple[object, ...]:
    """What it says, without where it came from and when."""
    return parked.charge_id, parked.kind, parked.status, parked.amount, parked.purchase_id
