"""What comes in: records and requests of all kinds, good and bad, and what they mean."""

import json
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, NamedTuple

from billing_stream.domain.commands import (
    AdjustCredits,
    AdvanceClock,
    AdvanceTime,
    AttachCharge,
    Command,
    CreateMerchant,
    DisputeCharge,
    ExtendTrial,
    FailPurchase,
    FailRefund,
    ForgetMerchant,
    ImportMerchant,
    OldPurchase,
    RefundCharge,
    ReservePurchase,
    SetShop,
    StartTrial,
    UninstallMerchant,
    UpdateCharge,
)
from billing_stream.domain.ids import derived_id
from billing_stream.domain.model import Platform
from billing_stream.domain.reports import DisputeStatus
from billing_stream.records import topics as names
from billing_stream.records.charge_records import UnroutedWebhook
from billing_stream.records.operator_commands import PackAsked, SetCatalogue
from billing_stream.records.schemas import encode
from tests.simulation.node import RECORD_BYTES_MAX

CHARGES = ("c1", "c2", "c3", "c4", "c5")
KEYS = ("k1", "k2", "k3", "k4", "k/5")
STATUSES = ("ACTIVE", "accepted ", "PENDING", "declined", "FROZEN", "succeeded")
# Domains that all merchants claim.
SHOPS = ("a.example", "b.example")
PACKS = ("small", "medium", "large", "huge")
OPERATORS = "operators"
PRICES = ("9.99", "8.50", "12.00")
CURRENCIES = ("USD", "USD", "USD", "EUR")
AMOUNTS = (None, "0.01", "3.00", "9.99", "20.5", "70")
OLD = datetime(2020, 1, 1, tzinfo=UTC)
BAD: tuple[bytes | None, ...] = (
    None,
    b"\xff\xfe",
    b"{",
    b"[]",
    b'{"merchant_id": "no-uuid", "charge_id": "c", "status": "active"}',
    b"x" * (RECORD_BYTES_MAX + 1),
)


class Meaning(NamedTuple):
    """What a record says; None: nothing that can be understood. Or it sets the catalogue."""

    command: Command | None
    correlation_id: str | None = None
    catalogue: SetCatalogue | None = None


class Traffic:
    """Makes commands. `purchases` gives those that a merchant has by now, `now` the time."""

    def __init__(
        self,
        random: Random,
        merchants: int,
        purchases: Callable[[str], Sequence[str]],
        now: Callable[[], datetime],
    ) -> None:
        self._random = random
        self.merchants = [
            str(uuid.UUID(int=random.getrandbits(128), version=4)) for _ in range(merchants)
        ]
        self._purchases = purchases
        self._now = now

    def command(self, kinds: Sequence[type[Any]]) -> Command:
        """Any command of these kinds for any merchant; without its id."""
        choice = self._random.choice
        kind = choice(kinds)
        merchant = choice(self.merchants)
        if kind is CreateMerchant:
            return self._installation(merchant)
        if kind is StartTrial:
            return StartTrial(merchant, self._key())
        if kind is ReservePurchase:
            url = choice(("/", "/", "/back"))
            return ReservePurchase(merchant, choice(PACKS), Platform.SHOPIFY, url, self._key())
        if kind is AttachCharge:
            url = f"https://pay.example/{choice(CHARGES)}"
            return AttachCharge(merchant, self._purchase(merchant), choice(CHARGES), url)
        if kind is FailPurchase:
            return FailPurchase(merchant, self._purchase(merchant), choice(("down", "slow")))
        if kind is UpdateCharge:
            paid = choice((None, None, "1", "69.99", "69.990"))
            told = choice((None, "USD", "EUR")) if paid else None
            return UpdateCharge(merchant, choice(CHARGES), choice(STATUSES), "", paid, told)
        if kind in (RefundCharge, FailRefund, DisputeCharge):
            return self._returned(kind, merchant)
        if kind is AdjustCredits:
            credits = choice((25, 25, -25, -100, -1000))
            return AdjustCredits(merchant, credits, choice(("gift", "error")), choice(KEYS))
        if kind is ExtendTrial:
            return self._extension(merchant)
        if kind is SetShop:
            domain = choice(("one.example", "https://Two.example/", "me@two.example"))
            return SetShop(merchant, "Shopify", domain, "ticket", choice(KEYS))
        if kind is AdvanceClock:
            return AdvanceClock(merchant, self._now() + timedelta(minutes=choice((-5, 1, 12, 25))))
        if kind is ForgetMerchant and self._random.random() < 0.4:
            return ForgetMerchant(merchant, "", *self._reported(merchant))
        if kind is UninstallMerchant and self._random.random() < 0.6:
            return UninstallMerchant(merchant, "", *self._reported(merchant))
        if kind is ImportMerchant:
            return self._import(merchant)
        return AdvanceTime(merchant)

    def _installation(self, merchant: str) -> Command:
        """An installation now or before, at times of a shop that others claim, too."""
        choice = self._random.choice
        domain = choice((f"{merchant[:4]}-a.example", f"{merchant[:4]}-b.example", *SHOPS))
        minutes = choice((None, 0, 0, -1, -3, -10, 2000))
        at = None if minutes is None else self._now() + timedelta(minutes=minutes)
        shop_id = choice((None, "1", "1", "2"))
        return CreateMerchant(merchant, "shopify", domain, "", shop_id, at)

    def _returned(self, kind: type[Any], merchant: str) -> Command:
        """Money of a charge goes back, or does not after all."""
        choice, charge = self._random.choice, self._random.choice(CHARGES)
        purchase = self._purchase(merchant) if self._random.random() < 0.3 else None
        amount = choice(AMOUNTS)
        if kind is FailRefund:
            return FailRefund(merchant, charge, choice(("r1", "r2")), "", purchase, amount)
        of, currency = choice(((None, None), (None, "USD"), ("90", "JPY"), (None, "EUR")))
        if kind is RefundCharge:
            own = choice((None, None, "r1", "r2"))
            return RefundCharge(merchant, charge, "", purchase, amount, own, of, currency)
        status = choice(tuple(DisputeStatus))
        own = choice(("d1", "d2"))
        return DisputeCharge(merchant, charge, own, status, "", purchase, amount, of, currency)

    def _reported(self, merchant: str) -> tuple[str | None, datetime | None]:
        """Of which shop a platform reports something, and when that happened."""
        shop = f"shopify:{merchant[:4]}-{self._random.choice('abb')}.example"
        return self._random.choice((None, shop, shop)), self._moment()

    def _moment(self) -> datetime | None:
        minutes = self._random.choice((None, None, -20, -3, 0, 1))
        return None if minutes is None else self._now() + timedelta(minutes=minutes)

    def _extension(self, merchant: str) -> ExtendTrial:
        choice, now = self._random.choice, self._now()
        key, reason = choice(KEYS), choice(("kind", "kind", "slow"))
        if self._random.random() < 0.6:
            ends_at = now + timedelta(minutes=choice((-5, 3, 12, 30, 10**7)))
            return ExtendTrial(merchant, reason, key, ends_at)
        return ExtendTrial(merchant, reason, key, days=choice((1, 2, 3653)))

    def _import(self, merchant: str) -> ImportMerchant:
        """The merchant as another service had it, with purchases that nobody else has."""
        choice, now = self._random.choice, self._now()
        purchases = tuple(
            OldPurchase(
                id=derived_id("old", merchant, str(number)),
                credits=60 + number,
                amount="6.50",
                status=choice(("pending", "completed", "failed", "expired")),
                platform=Platform.CUSTOM,
                created_at=OLD,
                expires_at=now + timedelta(minutes=choice((-5, 5, 15))),
                platform_charge_id=choice((None, *CHARGES)),
                completed_at=choice((None, OLD)),
            )
            for number in self._random.sample(range(4), choice((0, 1, 2)))
        )
        used = choice((None, None, -5, 10))
        ends_at = now + timedelta(minutes=used) if used is not None else None
        return ImportMerchant(
            merchant_id=merchant,
            created_at=OLD,
            trial_available=used is None,
            trial_ends_at=ends_at,
            purchases=purchases,
            platform=choice((None, "shopify")),
            domain=f"{merchant[:4]}-{choice('ab')}.example",
        )

    def record(self) -> tuple[str, str, bytes | None, Meaning]:
        """Topic, key, value and meaning of a record; one in fifteen is bad."""
        topic = self._random.choices(
            [
                names.MERCHANT_CREATED,
                names.PURCHASE_UPDATED,
                names.PURCHASE_REFUNDED,
                names.PURCHASE_DISPUTED,
                names.REFUND_FAILED,
                names.COMMANDS,
                names.OPERATOR_COMMANDS,
                names.CHARGES,
            ],
            [2, 4, 2, 2, 1, 6, 1, 2],
        )[0]
        if self._random.random() < 1 / 15:
            key = self._random.choice(self.merchants)
            return topic, key, self._random.choice(BAD), Meaning(None)
        if topic == names.OPERATOR_COMMANDS:
            asked = self.catalogue()
            return topic, OPERATORS, encode(asked), Meaning(None, None, asked)
        if topic == names.CHARGES:
            return self._unrouted()
        command = self.command(ON_TOPIC[topic])
        value = encode(command) if topic in ASKED else _payload(command)
        correlation_id = None
        if self._random.random() < 0.3:
            correlation_id = f"corr-{self._random.randrange(10**6)}"
            envelope = {"event_id": "e", "correlation_id": correlation_id}
            value = json.dumps({**envelope, "data": json.loads(value)}).encode()
        return topic, command.merchant_id, value, Meaning(command, correlation_id)

    def catalogue(self) -> SetCatalogue:
        """Packs with other prices, some of them retired; at once, later, or in the past."""
        choice = self._random.choice
        packs = {
            name: PackAsked(choice((60, 100, 120)), {choice(CURRENCIES): choice(PRICES)})
            for name in PACKS
            if self._random.random() < 0.7
        }
        minutes = choice((None, None, -1, 0, 2, 2, 9, 20))
        at = None if minutes is None else self._now() + timedelta(minutes=minutes)
        key = choice((None, "v1", "v2"))
        return SetCatalogue(packs, choice(("ann", "bob")), "prices", at, key)

    def _unrouted(self) -> tuple[str, str, bytes, Meaning]:
        """A webhook that names no merchant."""
        charge, choice = self._random.choice(CHARGES), self._random.choice
        payload: dict[str, Any] = {"charge_id": charge, "status": choice(STATUSES)}
        topic = choice((names.PURCHASE_UPDATED, names.PURCHASE_REFUNDED))
        if topic == names.PURCHASE_REFUNDED:
            payload = {"charge_id": charge, "amount": choice(AMOUNTS[1:])}
        said = UnroutedWebhook("shopify", charge, topic, payload)
        return names.CHARGES, said.charge, encode(said), Meaning(None)

    def _key(self) -> str | None:
        return self._random.choice(KEYS) if self._random.random() < 0.6 else None

    def _purchase(self, merchant: str) -> str:
        known = self._purchases(merchant)
        if not known or self._random.random() < 0.05:
            return derived_id("nobody's", str(self._random.randrange(3)))
        return self._random.choice(known)


KINDS: tuple[type[Any], ...] = (
    CreateMerchant,
    StartTrial,
    ReservePurchase,
    AttachCharge,
    FailPurchase,
    UpdateCharge,
    RefundCharge,
    FailRefund,
    DisputeCharge,
    AdvanceTime,
    AdjustCredits,
    ForgetMerchant,
    UninstallMerchant,
    AdvanceClock,
    ImportMerchant,
)
ASKED = (names.COMMANDS, names.OPERATOR_COMMANDS)
OFTEN: tuple[type[Any], ...] = (
    *KINDS,
    CreateMerchant,
    ReservePurchase,
    ReservePurchase,
    AttachCharge,
    AttachCharge,
)
ON_TOPIC: dict[str, tuple[type[Any], ...]] = {
    names.MERCHANT_CREATED: (CreateMerchant,),
    names.PURCHASE_UPDATED: (UpdateCharge,),
    names.PURCHASE_REFUNDED: (RefundCharge,),
    names.PURCHASE_DISPUTED: (DisputeCharge,),
    names.REFUND_FAILED: (FailRefund,),
    names.COMMANDS: OFTEN,
    names.OPERATOR_COMMANDS: (ExtendTrial, SetShop),
}


def _payload(command: Command) -> bytes:
    every = json.loads(encode(command)).items()
    left_out = ("command", "command_id")
    said = {name: v for name, v in every if v is not None and name not in left_out}
    if isinstance(command, CreateMerchant):
        said["platform_name"] = said.pop("platform")
    return json.dumps(said).encode()
