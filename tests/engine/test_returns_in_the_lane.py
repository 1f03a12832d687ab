"""Payments, refunds and disputes as records of their topics, through a lane in memory."""

from typing import Any

import pytest

from billing_stream.domain.commands import AttachCharge, CreateMerchant, ReservePurchase
from billing_stream.domain.model import Platform
from billing_stream.domain.outcomes import PurchaseOpened
from billing_stream.engine.partition_processor import Request
from billing_stream.records import topics as names
from tests.support.partition import Partition, record

M = "11111111-1111-4111-8111-111111111111"
YEN = {"charge_amount": 1500, "currency": "jpy"}
CHARGE = {"merchant_id": M, "charge_id": "c1"}


class Told:
    """A partition with an open purchase of 100 credits for 9.99 USD."""

    def __init__(self) -> None:
        self.partition = Partition()
        self._offsets: dict[str, int] = {}

    async def begin(self) -> "Told":
        """Open the purchase."""
        await self.partition.restart()

        async def ask(command: Any) -> Any:
            return (await self.partition.lane.ask(Request(command, "http", "c-1"))).reply

        await ask(CreateMerchant(M, "stripe", "a.example", "h/1"))
        opened = await ask(ReservePurchase(M, "small", Platform.STRIPE, command_id="h/2"))
        assert isinstance(opened, PurchaseOpened)
        await ask(AttachCharge(M, opened.purchase_id, "c1", "https://pay.example/", "h/3"))
        return self

    async def tell(self, topic: str, **said: Any) -> None:
        """A record of a topic about the charge."""
        offset = self._offsets.get(topic, 0)
        self._offsets[topic] = offset + 1
        await self.partition.feed(record(topic, offset, {**CHARGE, **said}))

    @property
    def balance(self) -> int:
        """What the merchant has."""
        return self.partition.processor.rows.merchants[M].balance

    def credits(self, kind: str) -> list[int]:
        """Of all events of a kind."""
        return [event["data"]["credits"] for event in self.partition.events(kind)]

    def reasons(self) -> list[str]:
        """Of all dead letters."""
        return [letter["reason"] for letter in self.partition.dead_letters()]


async def test_paid_disputed_won_refunded_and_failed_follow_the_money() -> None:
    told = await Told().begin()
    await told.tell(names.PURCHASE_UPDATED, status="ACTIVE", amount=9.99, currency="usd")
    balances = [told.balance]
    for topic, said in (
        (names.PURCHASE_DISPUTED, {"dispute_id": "d1", "status": "withdrawn"}),
        (names.PURCHASE_DISPUTED, {"dispute_id": "d1", "status": "won"}),
        (names.PURCHASE_REFUNDED, {"refund_id": "r1", "amount": "4.99000000"}),
        (names.REFUND_FAILED, {"refund_id": "r1", "amount": 4.99}),
        (names.PURCHASE_REFUNDED, {"refund_id": "r2", "amount": 300, **YEN}),
    ):
        await told.tell(topic, **said)
        balances.append(told.balance)

    assert balances == [100, 0, 100, 51, 100, 80]
    assert told.reasons() == []
    assert told.credits("purchase.disputed") == [-100]
    assert told.credits("purchase.dispute_closed") == [100]
    assert told.credits("purchase.refund_failed") == [49]
    assert told.credits("purchase.refunded") == [49, 20]


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ({"status": "active", "amount": "0.01"}, "PAYMENT_MISMATCH"),
        ({"status": "active", "amount": 999, "currency": "JPY"}, "PAYMENT_MISMATCH"),
        ({"status": "succeeded"}, "UNKNOWN_STATUS"),
    ],
)
async def test_another_sum_or_word_is_a_dead_letter_and_grants_nothing(
    said: dict[str, Any], code: str
) -> None:
    told = await Told().begin()

    await told.tell(names.PURCHASE_UPDATED, **said)

    assert told.balance == 0
    (reason,) = told.reasons()
    assert reason.startswith(f"{code}: ")


async def test_refunds_and_disputes_are_still_there_after_a_restart() -> None:
    told = await Told().begin()
    await told.tell(names.PURCHASE_UPDATED, status="active")
    await told.tell(names.PURCHASE_DISPUTED, dispute_id="d1", status="withdrawn")

    await told.partition.restart()
    await told.tell(names.PURCHASE_DISPUTED, dispute_id="d1", status="reinstated")
    await told.tell(names.PURCHASE_DISPUTED, dispute_id="d1", status="withdrawn")

    assert told.balance == 100
