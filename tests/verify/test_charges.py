"""Charges are as they were registered, and each webhook without a merchant has one outcome."""

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from billing_stream.domain.commands import AttachCharge, CreateMerchant, ReservePurchase
from billing_stream.domain.model import Platform
from billing_stream.engine.partition_processor import Outgoing
from billing_stream.engine.partitioner import partition_of
from billing_stream.records import topics as names
from billing_stream.records.charge_records import ChargeRegistered, UnroutedWebhook
from billing_stream.records.schemas import encode
from tests.verify.world import PARTITIONS, TOPICS, Copy, Stored, World, merchant_id

A, B = merchant_id(1), merchant_id(2)
CHARGES = TOPICS.name(names.CHARGES)


async def attach(world: World, merchant: str, charge: str) -> str:
    name = f"{merchant}/{charge}"
    reserve = ReservePurchase(merchant, "small", Platform.SHOPIFY, command_id=name)
    opened = await world.ask(reserve)
    page = "https://pay.example/1"
    await world.ask(AttachCharge(merchant, opened.purchase_id, charge, page, f"a/{name}"))
    return str(opened.purchase_id)


def webhook(world: World, charge: str, status: str = "active") -> None:
    payload = {"charge_id": charge, "status": status}
    said = UnroutedWebhook("shopify", charge, names.PURCHASE_UPDATED, payload)
    partition, key = partition_of(said.charge, PARTITIONS), said.key_of(str(uuid4()))
    world.log.append(CHARGES, partition, Outgoing(CHARGES, key, encode(said)))


@pytest_asyncio.fixture
async def copy() -> Copy:
    """Two webhooks that waited, one that waits still, one after all; and a second claim."""
    world = await World().restart()
    for merchant in (A, B):
        await world.ask(CreateMerchant(merchant, "shopify", f"{merchant}.example", merchant))
    for charge in ("c-1", "c-1", "c-2", "never"):
        webhook(world, charge)
    await world.feed_all()
    await attach(world, A, "c-1")
    await world.feed_all()
    await attach(world, B, "c-1")
    await attach(world, B, "c-2")
    await world.feed_all()
    webhook(world, "c-1", "frozen")
    await world.feed_all()
    await world.stop()
    return world.copy()


def registrations(copy: Copy, charge: str) -> list[Stored]:
    return [r for r in copy.of(CHARGES) if r.key == f"shopify:{charge}".encode()]


def row(copy: Copy, charge: str) -> Stored:
    rows = copy.rows(names.CHARGES_TABLE)
    return [r for r in rows if r.key == f"shopify:{charge}".encode()][-1]


def routed(copy: Copy) -> Stored:
    commands = copy.of(TOPICS.name(names.COMMANDS))
    return next(r for r in commands if "billing-forwarded-from" in dict(r.headers))


def second_claim_has_the_charge(copy: Copy) -> None:
    second = next(r for r in registrations(copy, "c-1") if r.data["merchant_id"] == B)
    owner = {name: second.data[name] for name in ("merchant_id", "purchase_id")}
    row(copy, "c-1").put(owner)


def second_claim_is_not_told(copy: Copy) -> None:
    letters = copy.of(TOPICS.name(names.DEAD_LETTERS))
    copy.drop(next(r for r in letters if r.data["reason"].startswith("CHARGE_TAKEN")))


def charge_never_registered(copy: Copy) -> None:
    for record in registrations(copy, "c-2"):
        copy.drop(record)


def row_lost(copy: Copy) -> None:
    found = row(copy, "c-2")
    copy.drop(found)


def registered_by_nobody(copy: Copy) -> None:
    template = registrations(copy, "c-2")[0]
    said = ChargeRegistered("shopify", "c-2", A, merchant_id(77))
    copy.add(template, value=encode(said))
    for position in copy.of(TOPICS.changelog(names.BILLING_RECORDS)):
        if position.key == f"\0position/{CHARGES}".encode():
            position.value = b"1000"


def webhook_lost(copy: Copy) -> None:
    copy.drop(routed(copy))


def webhook_routed_twice(copy: Copy) -> None:
    copy.add(routed(copy))


def webhook_changed(copy: Copy) -> None:
    record = routed(copy)
    data: Any = record.data
    record.put({**data, "data": {**data["data"], "status": "accepted"}})


def webhook_forgotten(copy: Copy) -> None:
    copy.drop(row(copy, "never"))


FAULTS = [
    second_claim_has_the_charge,
    second_claim_is_not_told,
    charge_never_registered,
    row_lost,
    registered_by_nobody,
    webhook_lost,
    webhook_routed_twice,
    webhook_changed,
    webhook_forgotten,
]


async def test_all_of_it_is_without_a_fault(copy: Copy) -> None:
    report = await copy.verify()

    assert report.ok, "\n".join(report.lines())
    assert report.checks["charges"].counted == 7


@pytest.mark.parametrize("seed", FAULTS)
async def test_fault_of_a_charge_is_named(copy: Copy, seed: Callable[[Copy], None]) -> None:
    seed(copy)

    report = await copy.verify()

    assert "charges" in report.faults(), "\n".join(report.lines())


async def test_compacted_topic_is_no_fault(copy: Copy) -> None:
    for (topic, _), log in copy.logs.items():
        if topic == CHARGES:
            last = {record.key: record.offset for record in log}
            log[:] = [record for record in log if last[record.key] == record.offset]
    (left,) = registrations(copy, "c-1")

    report = await copy.verify()

    assert json.loads(left.value or b"")["merchant_id"] == A
    assert "charges" not in report.faults(), "\n".join(report.lines())
