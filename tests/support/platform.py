"""A payment platform and a webhook topic in memory, to be told how to behave."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from billing_stream.errors import PlatformError, WebhookForged, WebhookMalformed
from billing_stream.platforms.base import (
    ChargeQuery,
    Checkout,
    CheckoutRequest,
    FoundCharge,
    IgnoredWebhook,
    PlatformEvent,
    WebhookContent,
)
from billing_stream.records.dead_letters import DeadLetter
from billing_stream.records.ended_sessions import EndedSession
from billing_stream.records.http_dead_letters import HttpDelivery
from billing_stream.records.topics import ENDED_SESSIONS
from billing_stream.web.envelope import not_ready
from billing_stream.web.ingress import WebhookRecord
from billing_stream.web.ops.ended_sessions import EndedSessions


class FakePlatform:
    """Opens a new charge at every call. `errors` are raised first; it waits while not `open`."""

    def __init__(self) -> None:
        self.asked: list[CheckoutRequest] = []
        self.errors: list[Exception] = []
        self.same_charge: str | None = None
        self.charges: dict[str, FoundCharge | Exception] = {}
        self.looked_up: list[ChargeQuery] = []
        self.open = asyncio.Event()
        self.open.set()
        self.was_asked = asyncio.Event()

    async def create_checkout(self, purchase: CheckoutRequest) -> Checkout:
        """A checkout, whose url ends in the number of the call."""
        self.asked.append(purchase)
        self.was_asked.set()
        number = len(self.asked)
        await self.open.wait()
        if self.errors:
            raise self.errors.pop(0)
        charge = f"gid://shopify/AppPurchaseOneTime/{number}"
        if self.same_charge is not None:
            charge = self.same_charge
        return Checkout(charge, f"https://pay.example/{number}")

    @property
    def looks_up(self) -> bool:
        """Whether a test gave it charges."""
        return bool(self.charges)

    async def find_charge(self, query: ChargeQuery) -> FoundCharge | None:
        """What the test says of the charge; an error is raised."""
        self.looked_up.append(query)
        await self.open.wait()
        found = self.charges.get(query.charge_id)
        if isinstance(found, Exception):
            raise found
        return found

    def read_webhook(
        self, headers: Mapping[str, str], body: bytes, now: datetime
    ) -> WebhookContent:
        """The body is what is told; `X-Good: yes` stands for a signature."""
        if headers.get("X-Good") != "yes":
            raise WebhookForged("the signature is wrong")
        if body == b"null":
            return IgnoredWebhook("another")
        try:
            return msgspec.json.decode(body, type=PlatformEvent)
        except msgspec.DecodeError as error:
            raise WebhookMalformed(str(error)) from None

    async def close(self) -> None:
        """Nothing is open."""


def no_checkout(why: str) -> PlatformError:
    """What an adapter raises."""
    return PlatformError(why)


class MemoryIngress:
    """Keeps webhook records; or does not acknowledge them, while not `up`."""

    def __init__(self) -> None:
        self.records: list[WebhookRecord] = []
        self.letters: list[DeadLetter] = []
        self.up = True
        # Who reads the ended sessions: every worker of the cluster.
        self.followers: list[EndedSessions] = []

    async def write(
        self,
        topic: str,
        key: bytes | None,
        value: bytes,
        partition: int,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        """Let the followers read it. Raises ApiError."""
        if not self.up:
            raise not_ready("Kafka has not acknowledged it; send it again")
        assert topic == ENDED_SESSIONS
        for follower in self.followers:
            follower.note(msgspec.json.decode(value, type=EndedSession))

    async def put(self, record: WebhookRecord) -> None:
        """Keep it. Raises ApiError."""
        if not self.up:
            raise not_ready("Kafka has not acknowledged it; send it again")
        json.dumps(record.data)
        self.records.append(record)

    async def put_dead_letter(self, letter: DeadLetter, delivery: HttpDelivery) -> None:
        """Keep it. Raises ApiError."""
        if not self.up:
            raise not_ready("Kafka has not acknowledged it; send it again")
        self.letters.append(letter)

    def taken(self) -> list[WebhookRecord]:
        """The records, which are kept no longer."""
        records, self.records = self.records, []
        return records

    async def close(self) -> None:
        """Nothing is open."""
