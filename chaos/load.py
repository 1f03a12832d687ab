"""The steady load of a Kafka producer: merchants and all that befalls them."""

import asyncio
import random
import uuid
from decimal import Decimal
from typing import Any

from billing_stream.domain.ids import derived_id
from billing_stream.records import topics as names
from billing_stream.records.record_ref import RecordRef
from chaos.promises import PACKS, Bought
from chaos.sender import Sender, Unsure, domain_of
from chaos.stage import Stage

PURCHASES_EACH = 3
# Of one merchant, measured over many.
RECORDS_EACH = 13.5
# While the broker is away the load waits, and so do its producers.
MERCHANTS_AT_ONCE_MAX = 200
FATES = {"paid": 55, "declined": 15, "refunded": 10, "part": 10, "pending": 10}
BAD = (b"\xff not json", b'{"merchant_id": "none"}', b"[]", b'{"data": {"status": "paid"}}')


class Load:
    """Sends about `per_second` records a second, until stopped."""

    def __init__(self, stage: Stage, sender: Sender, per_second: float, seed: int) -> None:
        self._stage = stage
        self._sender = sender
        self._pause = RECORDS_EACH / per_second
        self._random = random.Random(seed)
        self._tasks: set[asyncio.Task[None]] = set()
        self._going: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._going = asyncio.create_task(self._run(), name="load")

    async def stop(self, seconds: float) -> None:
        """Begin nothing new, and finish what was begun, all of it acknowledged."""
        if self._going is not None:
            self._going.cancel()
            await asyncio.gather(self._going, return_exceptions=True)
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=seconds)
            for task in late:
                task.cancel()

    async def _run(self) -> None:
        while True:
            if len(self._tasks) < MERCHANTS_AT_ONCE_MAX:
                task = asyncio.create_task(self._merchant(self._random.getrandbits(128)))
                self._tasks.add(task)
                task.add_done_callback(self._done)
            await asyncio.sleep(self._pause)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, Unsure):
            self._stage.problem(f"the load itself failed: {error!r}")

    async def _merchant(self, seed: int) -> None:
        chance = random.Random(seed)
        merchant = str(uuid.UUID(int=seed, version=4))
        told = {"merchant_id": merchant, "domain": domain_of(merchant), "name": "n"}
        created = self._sender.begin(
            names.MERCHANT_CREATED, merchant, {**told, "platform_name": "shopify"}
        )
        await self._sender.create_merchant(merchant)
        reserved: list[tuple[str, Any]] = []
        for _ in range(PURCHASES_EACH):
            pack = chance.choice(list(PACKS))
            command = {"command": "reserve_purchase", "pack": pack, "platform": "shopify"}
            reserved.append((pack, self._command(merchant, command)))
        trial = self._command(merchant, {"command": "start_trial"})
        for pack, sent in reserved:
            await self._purchase(chance, merchant, pack, await sent)
        await trial
        self._stage.promises.trials.add(merchant)
        await created

    def _command(self, merchant: str, command: dict[str, Any]) -> "asyncio.Task[RecordRef]":
        return self._sender.begin(names.COMMANDS, merchant, {**command, "merchant_id": merchant})

    async def _purchase(
        self, chance: random.Random, merchant: str, pack: str, ref: RecordRef
    ) -> None:
        topic, partition, offset = ref
        purchase = derived_id("purchase", merchant, f"{topic}[{partition}]@{offset}")
        bought = self._stage.promises.purchases[purchase] = Bought(merchant, pack)
        charge = f"gid://shopify/AppPurchaseOneTime/{purchase[:18]}"
        attach = {"command": "attach_charge", "purchase_id": purchase, "charge_id": charge}
        attach["checkout_url"] = "https://pay.example/1"
        if chance.random() < 0.15:
            # Early: the webhooks come before the charge is known.
            await self._webhooks(chance, bought, charge)
            await self._command(merchant, attach)
        else:
            await self._command(merchant, attach)
            await self._webhooks(chance, bought, charge)
        if chance.random() < 0.02:
            value = chance.choice(BAD)
            bad = await self._sender.send(names.PURCHASE_UPDATED, merchant, value)
            self._stage.promises.bad.add(bad)

    async def _webhooks(self, chance: random.Random, bought: Bought, charge: str) -> None:
        [fate] = chance.choices(list(FATES), list(FATES.values()))
        told = {"merchant_id": bought.merchant, "charge_id": charge}
        status = {"declined": "declined", "pending": "PENDING"}.get(fate, "ACTIVE")
        for _ in range(1 + (chance.random() < 0.2)):
            strays = chance.random() < 0.05
            await self._sender.send(
                names.PURCHASE_UPDATED,
                bought.merchant,
                _maybe_enveloped(chance, {**told, "status": status}),
                key="a key of another kind" if strays else "",
                partition=chance.randrange(self._stage.partitions) if strays else None,
            )
        bought.declined = fate == "declined"
        bought.paid = status == "ACTIVE"
        if fate == "refunded":
            await self._sender.send(names.PURCHASE_REFUNDED, bought.merchant, told)
            bought.refunds.append(bought.price)
        if fate == "part":
            for share in sorted(chance.sample((0.1, 0.25, 0.5, 0.75), chance.randint(1, 2))):
                amount = (bought.price * Decimal(str(share))).quantize(Decimal("0.01"))
                refund = {**told, "amount": str(amount)}
                await self._sender.send(names.PURCHASE_REFUNDED, bought.merchant, refund)
                bought.refunds.append(amount)


def _maybe_enveloped(chance: random.Random, payload: dict[str, Any]) -> dict[str, Any]:
    if chance.random() < 0.5:
        return payload
    return {"event_id": "e", "event_type": "t", "correlation_id": "c", "data": payload}
