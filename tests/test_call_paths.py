"""How much a reader has to read to follow one record from its input to the log."""

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faust
import pytest

from billing_stream.agents import inputs
from billing_stream.domain.commands import (
    AttachCharge,
    CreateMerchant,
    ReservePurchase,
    StartTrial,
)
from billing_stream.domain.model import Platform
from billing_stream.domain.outcomes import PurchaseOpened
from billing_stream.engine.partition_inputs import Batch
from billing_stream.engine.partition_processor import Request
from billing_stream.records import topics as names
from tests.support.call_path import call_path
from tests.support.partition import TOPICS, Partition, record, until_committed

MERCHANT = "11111111-1111-4111-8111-111111111111"
# What observes a transaction decides nothing in it.
OBSERVERS = ("billing_stream/observability",)
# Of files and lines; none may rise.
FEW = (14, 2_650)
WITH_A_DEADLINE = (16, 2_760)


class Stream:
    """An agent's stream that ends with the events that it is given."""

    def __init__(self, *batches: Batch) -> None:
        self._batches = batches

    def noack(self) -> "Stream":
        return self

    async def events(self) -> AsyncIterator[Any]:
        yield SimpleNamespace(message=SimpleNamespace(value=self._batches))


async def bought(partition: Partition, number: int) -> str:
    """A purchase that waits for its payment; its charge."""

    async def ask(command: Any) -> Any:
        return (await partition.lane.ask(Request(command, "http", "c-1"))).reply

    opened = await ask(
        ReservePurchase(MERCHANT, "small", Platform.SHOPIFY, command_id=f"open/{number}")
    )
    assert isinstance(opened, PurchaseOpened)
    charge = f"gid://shopify/AppPurchaseOneTime/{number}"
    await ask(AttachCharge(MERCHANT, opened.purchase_id, charge, "https://pay.example/1"))
    return charge


@pytest.mark.parametrize(("on_trial", "limits"), [(False, FEW), (True, WITH_A_DEADLINE)])
async def test_a_webhook_record_goes_through_few_files(
    tmp_path: Path, on_trial: bool, limits: tuple[int, int]
) -> None:
    partition = await Partition().restart()
    app = faust.App("app", datadir=str(tmp_path))
    inputs.register(app, partition.lanes, TOPICS)
    agent: Any = app.agents["webhooks-updated"]
    await partition.lane.ask(
        Request(CreateMerchant(MERCHANT, "shopify", "a.example", "create"), "cli", "c-1")
    )

    if on_trial:
        await partition.lane.ask(Request(StartTrial(MERCHANT, command_id="trial"), "http", "c-1"))

    async def deliver(offset: int) -> None:
        charge = await bought(partition, offset)
        paid = {"charge_id": charge, "status": "ACTIVE", "merchant_id": MERCHANT}
        records: list[Any] = [record(names.PURCHASE_UPDATED, offset, paid)]
        stream = Stream(Batch(names.PURCHASE_UPDATED, records, offset, partition.lanes.epoch))
        with call_path() as found:
            await agent.fun(stream)
            await until_committed(partition.lane)
        paths.append(found)

    paths: list[Any] = []
    for offset in range(2):
        await deliver(offset)

    lines = paths[-1].lines(without=OBSERVERS)
    print(*(f"{count:5} {file}" for file, count in lines.items()), sep="\n")
    print(f"{len(lines)} files, {sum(lines.values())} lines")
    assert len(partition.events("credits.purchased")) == len(paths)
    assert (len(lines) <= limits[0], sum(lines.values()) <= limits[1]) == (True, True), lines
    await partition.lanes.drop([0])
