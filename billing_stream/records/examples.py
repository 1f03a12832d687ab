"""An example of every record on a topic, made by the code that writes such records."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec import Struct

from billing_stream.domain import commands, outcomes
from billing_stream.domain.ids import derived_id
from billing_stream.domain.model import Platform
from billing_stream.domain.policy import OncePer, Pack
from billing_stream.domain.reports import DisputeStatus
from billing_stream.domain.shop_trial import ClaimCause, shop_trial_key
from billing_stream.records import dead_letters, schemas, topics
from billing_stream.records.catalogue_records import CurrencyOfOldRows, SetVersion
from billing_stream.records.charge_records import ChargeRegistered, UnroutedWebhook
from billing_stream.records.ended_sessions import EndedSession
from billing_stream.records.endpoint_changes import (
    EndpointChanged,
    EndpointState,
    endpoint_event,
)
from billing_stream.records.http_dead_letters import HttpDelivery, dead_letter_of_webhook
from billing_stream.records.json_schemas import EVENTS
from billing_stream.records.operator_commands import (
    AcceptTopic,
    AdoptCatalogue,
    PackAsked,
    ResumeInput,
    SetCatalogue,
    SkipRecord,
)
from billing_stream.records.record_ref import RecordRef
from billing_stream.records.transaction_order import TakenRange, TransactionOrder

MERCHANT_ID = "0b1f6a5e-6c3d-4c58-9b77-2f6f4f0f6f11"
PURCHASE_ID = "5f0c8a52-0f0e-5d0e-8d0c-3a1d1f2b4c5d"
EXTENSION_ID = "2d4c8a0e-7a3f-5b1e-9c57-41d2b0a6c7e3"
ADJUSTMENT_ID = "c9a0b7de-6f0f-5d55-9c3c-0d6c6b1a7a52"
CHARGE_ID = "gid://shopify/AppPurchaseOneTime/1024"
CHECKOUT_URL = "https://example.myshopify.com/admin/charges/1024/confirm"
DISPUTE_ID = "dp_1024"
DOMAIN = "example.myshopify.com"
CORRELATION_ID = "8d7e5c1a-req-1"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ENDS_AT = NOW + timedelta(days=14)
EXPIRES_AT = NOW + timedelta(hours=24)
VERSION = SetVersion(
    version=3,
    effective_at=ENDS_AT,
    packs={"small": Pack(120, {"USD": "9.99", "JPY": "1500"}, "A start")},
    set_at=NOW,
    by="ann@host",
    reason="summer prices",
    command=str(RecordRef(topics.OPERATOR_COMMANDS, 0, 7)),
    idempotency_key="summer-prices",
)


class Example(Struct, frozen=True):
    """A record: what it shows, its value as JSON, and its headers."""

    name: str
    value: Any
    headers: dict[str, str] | None = None


def examples() -> dict[str, list[Example]]:
    """Examples of the records on each topic (without a prefix)."""
    return {**_inputs(), topics.COMMANDS: _commands(), **_events(), **_others()}


def _bare_and_enveloped(topic: str, payload: dict[str, Any]) -> list[Example]:
    envelope = {
        "event_id": derived_id("example", topic),
        "event_type": topic,
        "correlation_id": CORRELATION_ID,
        "source_service": "another-service",
        "timestamp": _text(NOW),
        "data": payload,
    }
    return [Example("bare", payload), Example("enveloped", envelope)]


def _inputs() -> dict[str, list[Example]]:
    charge = {"merchant_id": MERCHANT_ID, "charge_id": CHARGE_ID}
    created = {
        "merchant_id": MERCHANT_ID,
        "platform_name": "shopify",
        "platform_shop_id": "gid://shopify/Shop/7",
        "domain": DOMAIN,
        "name": "Example shop",
        "email": "owner@shop.example",
        "installed_at": _text(NOW),
    }
    shop = outcomes.ShopRegistered(
        "shopify", DOMAIN, MERCHANT_ID, platform_shop_id="gid://shopify/Shop/7", installed_at=NOW
    )
    key = shop_trial_key("shopify", "7")
    claim = outcomes.TrialClaimed(key, MERCHANT_ID, ClaimCause.ASKED, OncePer.SHOP)
    updated, refunded, disputed, failed = topics.WEBHOOKS
    dispute = {"dispute_id": DISPUTE_ID, "status": "withdrawn", "amount": "9.99"}
    gone = outcomes.ShopRegistered("shopify", DOMAIN, MERCHANT_ID, gone=True)
    return {
        topics.MERCHANT_CREATED: _bare_and_enveloped(topics.MERCHANT_CREATED, created),
        updated: _bare_and_enveloped(updated, {**charge, "status": "ACTIVE"}),
        refunded: _bare_and_enveloped(refunded, {**charge, "amount": "9.99"}),
        disputed: _bare_and_enveloped(disputed, {**charge, **dispute}),
        failed: _bare_and_enveloped(failed, {**charge, "refund_id": "re_7", "amount": "4.99"}),
        topics.OPERATOR_COMMANDS: _operator_commands(),
        topics.CHARGES: _charges(),
        topics.SHOPS: [
            Example("registered", _json(shop)),
            Example("gone", _json(gone)),
            Example("trial", {"correlation_id": CORRELATION_ID, "data": _json(claim)}),
        ],
    }


def _charges() -> list[Example]:
    known = ChargeRegistered("shopify", CHARGE_ID, MERCHANT_ID, PURCHASE_ID)
    payload = {"charge_id": CHARGE_ID, "status": "ACTIVE"}
    webhook = UnroutedWebhook("shopify", CHARGE_ID, topics.PURCHASE_UPDATED, payload, MERCHANT_ID)
    return [Example("registered", _json(known)), Example("webhook", _json(webhook))]


def _operator_commands() -> list[Example]:
    where, who, why = (topics.PURCHASE_UPDATED, 3), "ann@host", "the producer is repaired"
    every = (
        ResumeInput(*where, who, why),
        SkipRecord(*where, who, why, offset=1204),
        AcceptTopic(*where, who, why),
        SetCatalogue(
            {"small": PackAsked(120, {"USD": "9.99", "JPY": "1500"}, "A start")},
            who,
            "summer prices",
            ENDS_AT,
            "summer-prices",
        ),
        AdoptCatalogue(VERSION),
        commands.ExtendTrial(MERCHANT_ID, "ticket 4713", "ticket-4713", days=7),
        commands.SetShop(MERCHANT_ID, "shopify", DOMAIN, "ticket 4714", "ticket-4714"),
    )
    return [Example(said["command"], said) for said in map(_json, every)]


def _catalogue() -> list[Example]:
    return [
        Example("currency of old rows", _json(CurrencyOfOldRows("USD", NOW))),
        Example("version", _json(VERSION)),
    ]


def _commands() -> list[Example]:
    m, p = MERCHANT_ID, PURCHASE_ID
    every: list[commands.Command] = [
        commands.CreateMerchant(m, "shopify", DOMAIN),
        commands.StartTrial(m, "start-1"),
        commands.AnswerTrialClaim(m, shop_trial_key("shopify", "7"), granted=True),
        commands.ReservePurchase(m, "small", Platform.SHOPIFY, "https://shop.example/", "buy-1"),
        commands.ReservePurchase(m, "small", Platform.SHOPIFY, currency="JPY"),
        commands.AttachCharge(m, p, CHARGE_ID, CHECKOUT_URL),
        commands.FailPurchase(m, p, "the platform does not answer"),
        commands.UpdateCharge(m, CHARGE_ID, "active"),
        commands.RefundCharge(m, CHARGE_ID, purchase_id=p, amount="4.99"),
        commands.FailRefund(m, CHARGE_ID, "re_7", amount="4.99"),
        commands.DisputeCharge(m, CHARGE_ID, DISPUTE_ID, DisputeStatus.WITHDRAWN),
        commands.AdvanceTime(m),
        commands.AdjustCredits(
            m, -20, "ticket 4711", "ticket-4711", merchant_note="Bought by mistake"
        ),
        commands.ForgetMerchant(m),
        commands.UninstallMerchant(m, shop=f"shopify:{DOMAIN}", triggered_at=NOW),
        commands.AdvanceClock(m, ENDS_AT),
        _import(),
    ]
    found = []
    for command in every:
        said = _json(command)
        # It is the record's reference that names a command from a topic.
        said.pop("command_id", None)
        found.append(Example(said["command"], said))
    return found


def _import() -> commands.ImportMerchant:
    purchase = commands.OldPurchase(
        id=PURCHASE_ID,
        credits=100,
        amount="9.99",
        status="completed",
        platform=Platform.SHOPIFY,
        created_at=NOW,
        expires_at=EXPIRES_AT,
        platform_charge_id=CHARGE_ID,
        completed_at=NOW + timedelta(minutes=2),
        currency="USD",
    )
    return commands.ImportMerchant(
        merchant_id=MERCHANT_ID,
        created_at=NOW,
        trial_available=False,
        trial_started_at=NOW,
        trial_ends_at=ENDS_AT,
        last_purchase_at=purchase.completed_at,
        platform="shopify",
        domain=DOMAIN,
        purchases=(purchase,),
    )


def _events() -> dict[str, list[Example]]:
    m, p = MERCHANT_ID, PURCHASE_ID
    every: list[outcomes.EventData] = [
        outcomes.TrialStarted(m, ENDS_AT, 500),
        outcomes.TrialEnding(m, ENDS_AT),
        outcomes.TrialExpired(m, ENDS_AT),
        outcomes.TrialExtended(m, ENDS_AT, EXTENSION_ID, "Take your time"),
        outcomes.CreditsPurchased(m, p, 100, "9.99", Platform.SHOPIFY, "USD", "small"),
        outcomes.PurchaseFailed(m, p, "declined"),
        outcomes.PurchaseExpired(m, p, "not paid in time"),
        outcomes.PurchaseRefunded(m, p, 100, "9.99", "USD", "small"),
        outcomes.PurchaseRefundFailed(m, p, 100),
        outcomes.PurchaseDisputed(m, p, DISPUTE_ID, DisputeStatus.WITHDRAWN, -100),
        outcomes.PurchaseDisputeClosed(m, p, DISPUTE_ID, DisputeStatus.REINSTATED, 100),
        outcomes.CreditsAdjusted(m, ADJUSTMENT_ID, -20, "ticket 4711", "Bought by mistake"),
        outcomes.MerchantForgotten(m),
        outcomes.MerchantUninstalled(m),
        outcomes.TrialImported(m, ENDS_AT - timedelta(days=14), ENDS_AT),
        outcomes.CreditsImported(m, p, 100, "9.99", Platform.SHOPIFY, "USD"),
    ]
    found = {}
    for sequence, data in enumerate(every, 1):
        event_type = topics.event_type(data.kind)
        event = outcomes.Event(derived_id("example", data.kind), sequence, NOW, data)
        value = schemas.encode_event(event, event_type, CORRELATION_ID)
        headers = {"sequence": str(sequence), "cause": "http"}
        found[event_type] = [Example(data.kind, msgspec.json.decode(value), headers)]
    if len(found) != len(EVENTS):
        raise ValueError("an event has no example")
    return found


def _others() -> dict[str, list[Example]]:
    entry = schemas.JournalEntry(
        command=commands.StartTrial(MERCHANT_ID, "start-1", "http/1"),
        origin="http",
        correlation_id=CORRELATION_ID,
        now=NOW,
        positions={topics.MERCHANT_CREATED: 17, topics.COMMANDS: 4},
    )
    taken = [TakenRange(topics.PURCHASE_UPDATED, 204, 311), TakenRange(topics.COMMANDS, 3, 4)]
    upgraded = {topics.PURCHASE_UPDATED: 204, topics.COMMANDS: 3}
    letter = dead_letters.DeadLetter(
        topic=topics.PURCHASE_UPDATED,
        partition=3,
        offset=71,
        timestamp=NOW,
        key=MERCHANT_ID.encode(),
        value=b"not JSON",
        headers=[("delivery", b"d-1")],
        reason="JSON is malformed: invalid character (byte 1)",
    )
    webhook = dead_letter_of_webhook(
        HttpDelivery(
            platform="stripe", delivery_id="evt_1", kind="refunded", merchant_id=MERCHANT_ID
        ),
        b'{"id": "evt_1", "type": "charge.refunded", "data": {"object": {"id": 5}}}',
        "`data.object.id` must be text, not a whole number",
        correlation_id=CORRELATION_ID,
        now=NOW,
    )
    large = msgspec.structs.replace(
        letter,
        value=b'{"merchant_id":"...", and so on, 65,536 bytes',
        reason="the value has 3200000 bytes, more than 262144",
        truncated=dead_letters.Truncated(3_200_000, "9f" * 32, 3_200_083, "4c" * 32),
    )
    ref = str(RecordRef(topics.DEAD_LETTERS, 3, 17))
    redriven = dead_letters.DeadLetterAction(
        letter=ref,
        action="redriven",
        by="anna@ops-1",
        at=NOW,
        reason="the producer is fixed, ticket 4712",
        target=str(RecordRef(topics.COMMANDS, 3, 204)),
        edited=True,
    )
    discarded = dead_letters.DeadLetterAction(
        letter=ref, action="discarded", by="anna@ops-1", at=NOW, reason="a test of the gateway"
    )
    return {
        topics.JOURNAL: [
            Example("start_trial", _json(entry)),
            Example("order", _json(TransactionOrder(18, taken))),
            Example("first order after an upgrade", _json(TransactionOrder(1, taken, upgraded))),
        ],
        topics.DEAD_LETTERS: [
            Example("not JSON", _json(letter)),
            Example("invalid webhook over HTTP", _json(webhook)),
            Example("a large record", _json(large)),
        ],
        topics.DEAD_LETTER_ACTIONS: [
            Example("redriven", _json(redriven)),
            Example("discarded", _json(discarded)),
        ],
        topics.ENDED_SESSIONS: [
            Example("ended", _json(EndedSession("S5nB0pYk3uQ4lVh2aT8wZw", EXPIRES_AT))),
        ],
        topics.CATALOGUE: _catalogue(),
        topics.ENDPOINT_CHANGED: _endpoints(),
    }


def _endpoints() -> list[Example]:
    enabled = EndpointChanged(
        endpoint_id="crm", state=EndpointState.ENABLED, url="https://crm.example.com"
    )
    disabled = msgspec.structs.replace(
        enabled,
        state=EndpointState.DISABLED,
        reason="without a success since 2026-02-26T12:00:00Z",
        last_error="it answered 503",
        queued=12,
    )
    return [
        Example(one.state.value, msgspec.json.decode(endpoint_event(one, NOW)))
        for one in (enabled, disabled)
    ]


def _json(record: Struct) -> Any:
    return msgspec.json.decode(schemas.encode(record))


def _text(moment: datetime) -> str:
    text: str = msgspec.to_builtins(moment)
    return text
