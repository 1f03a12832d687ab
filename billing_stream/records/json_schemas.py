"""JSON Schema of every record, made from the structs that read and write them.

Nothing is copied: `web.openapi` and `records.asyncapi` are made from here too.
"""

import inspect
from collections.abc import Callable, Iterable
from typing import Annotated, Any, get_args

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from billing_stream.domain import outcomes
from billing_stream.domain.charges import Charge
from billing_stream.domain.commands import UUID_TEXT, Key, Uuid
from billing_stream.domain.model import Adjustment, Instant, Merchant, Purchase
from billing_stream.domain.shops import Shop
from billing_stream.records import dead_letters, topics
from billing_stream.records import schemas as records
from billing_stream.records.catalogue_records import CatalogueRecord
from billing_stream.records.charge_records import ChargeRecord
from billing_stream.records.commands_in import CommandIn
from billing_stream.records.ended_sessions import EndedSession
from billing_stream.records.endpoint_changes import EndpointChanged
from billing_stream.records.operator_commands import OperatorCommand
from billing_stream.records.payloads import (
    MerchantCreated,
    PurchaseDisputedIn,
    PurchaseRefundedIn,
    PurchaseUpdated,
    RefundFailedIn,
)
from billing_stream.records.transaction_order import TransactionOrder

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
REF = "#/$defs/{name}"

EVENTS: dict[str, type[Struct]] = {kind.kind: kind for kind in get_args(outcomes.EventData)}
ENVELOPED = "Either the bare payload, or the envelope with the payload as its `data`."


class Record(Struct, frozen=True):
    """One kind of record; its value is of any one of `types`."""

    name: str
    title: str
    description: str
    types: tuple[Any, ...]


def event_envelope(kind: type[Struct], event_type: str) -> type[Struct]:
    """The envelope of a published event, with this data."""
    known: dict[str, Any] = {
        "event_id": Uuid,
        "event_type": Annotated[str, Meta(extra_json_schema={"const": event_type})],
        "correlation_id": str,
        "source_service": Annotated[str, Meta(extra_json_schema={"const": records.SOURCE_SERVICE})],
        "timestamp": Instant,
        "data": kind,
    }
    return msgspec.defstruct(
        f"{kind.__name__}Event",
        list(known.items()),
        namespace={"__doc__": "The same event has the same `event_id` permanently."},
        frozen=True,
    )


def input_envelope(name: str, payload: Any) -> type[Struct]:
    """The envelope of what others send: nothing but `data` is needed."""
    text: Any = str | UnsetType
    return msgspec.defstruct(
        f"{name}Envelope",
        [
            ("data", payload),
            ("event_id", text, UNSET),
            ("event_type", text, UNSET),
            ("correlation_id", Key | UnsetType, UNSET),
            ("source_service", text, UNSET),
            ("timestamp", Instant | UnsetType, UNSET),
        ],
        namespace={"__doc__": "The payload in its envelope; only `data` is needed."},
        frozen=True,
    )


def inputs() -> list[Record]:
    """The records that are read, by topic."""
    payloads: list[tuple[str, str, Any]] = [
        (topics.MERCHANT_CREATED, "MerchantCreated", MerchantCreated),
        (topics.PURCHASE_UPDATED, "PurchaseUpdated", PurchaseUpdated),
        (topics.PURCHASE_REFUNDED, "PurchaseRefundedIn", PurchaseRefundedIn),
        (topics.PURCHASE_DISPUTED, "PurchaseDisputedIn", PurchaseDisputedIn),
        (topics.REFUND_FAILED, "RefundFailedIn", RefundFailedIn),
        (topics.COMMANDS, "Command", CommandIn),
    ]
    about = {topics.COMMANDS: "What other systems ask of us."}
    found = [
        Record(
            topic,
            name,
            f"{about.get(topic) or doc(payload)}\n\n{ENVELOPED}",
            (payload, input_envelope(name, payload)),
        )
        for topic, name, payload in payloads
    ]
    shops = (outcomes.ShopRegistered, outcomes.TrialClaimed)
    about_shops = "The merchant of a shop; or the claim of a merchant to the trial of its shop."
    claim = input_envelope("TrialClaimed", outcomes.TrialClaimed)
    found.append(Record(topics.SHOPS, "ShopRecord", about_shops, (*shops, claim)))
    charges = (
        "Which purchase has a charge; or a webhook that names no merchant, of a charge without."
    )
    found.append(Record(topics.CHARGES, "ChargeRecord", charges, (ChargeRecord,)))
    commands = (
        "What an operator decides about an input (`billing-stream inputs`), the catalogue "
        "(`billing-stream catalogue`), or the trial of a merchant."
    )
    found.append(Record(topics.OPERATOR_COMMANDS, "OperatorCommand", commands, (OperatorCommand,)))
    return found


def outputs() -> list[Record]:
    """The records that are published, by topic."""
    found = [
        Record(
            topics.event_type(kind), data.__name__, doc(data),
            (event_envelope(data, topics.event_type(kind)),),
        )
        for kind, data in EVENTS.items()
    ]  # fmt: skip
    changed = event_envelope(EndpointChanged, topics.ENDPOINT_CHANGED)
    about = doc(EndpointChanged)
    found.append(Record(topics.ENDPOINT_CHANGED, EndpointChanged.__name__, about, (changed,)))
    journal = records.JournalEntry, TransactionOrder
    about = "\n\n".join(map(doc, journal))
    found.append(Record(topics.JOURNAL, records.JournalEntry.__name__, about, journal))
    for topic, record in (
        (topics.DEAD_LETTERS, dead_letters.DeadLetter),
        (topics.DEAD_LETTER_ACTIONS, dead_letters.DeadLetterAction),
        (topics.ENDED_SESSIONS, EndedSession),
    ):
        found.append(Record(topic, record.__name__, doc(record), (record,)))
    about = "What was set of the catalogue, and the currency of old purchases."
    found.append(Record(topics.CATALOGUE, "CatalogueRecord", about, (CatalogueRecord,)))
    return found


def rows() -> list[Record]:
    """The records of the changelogs, by table."""
    found = [
        Record(table, row.__name__, doc(row), (row,))
        for table, row in (
            (topics.BILLING_RECORDS, Merchant),
            (topics.CREDIT_PURCHASES, Purchase),
            (topics.CREDIT_ADJUSTMENTS, Adjustment),
            (topics.IDEMPOTENCY_KEYS, outcomes.StoredResponse),
        )
    ]
    about = (
        f"{doc(Shop)}\n\nReleases up to 0.5.1 wrote the merchant id alone, bare text and no JSON."
    )
    found.append(Record(topics.SHOPS_TABLE, Shop.__name__, about, (Shop,)))
    found.append(Record(topics.CHARGES_TABLE, Charge.__name__, doc(Charge), (Charge,)))
    return found


def document() -> dict[str, Schema]:
    """The schema of every record, by topic (without a prefix) or table."""
    return {record.name: _schema(record) for record in (*inputs(), *outputs(), *rows())}


def _schema(record: Record) -> Schema:
    # OpenAPI's word for what `anyOf` says; a strict validator knows no words of others.
    found, named = rewrite(components(record.types, REF), _without_discriminator)
    value = found[0] if len(found) == 1 else {"anyOf": found}
    schema = {
        "$schema": DIALECT,
        "$id": f"urn:billing-stream:record:{record.name}",
        "title": record.title,
        "description": record.description,
        **value,
    }
    return schema | ({"$defs": named} if named else {})


def components(types: Iterable[Any], ref: str) -> tuple[list[Schema], dict[str, Schema]]:
    """The schemas of `types`, and by name those of the structs in them.

    `ref` is how they refer to each other, e.g. `#/$defs/{name}`.
    """
    found, named = msgspec.json.schema_components(tuple(types), ref_template=ref)
    return [rewrite(schema, _tidy) for schema in found], rewrite(dict(named), _tidy)


def doc(thing: Any) -> str:
    """Its description in the code."""
    return inspect.getdoc(thing) or ""


def rewrite(value: Any, change: Callable[[Schema], Schema]) -> Any:
    """The value with `change` done to every object in it, from the inside out."""
    if isinstance(value, dict):
        return change({name: rewrite(inner, change) for name, inner in value.items()})
    if isinstance(value, list | tuple):
        return [rewrite(inner, change) for inner in value]
    return value


def _without_discriminator(schema: Schema) -> Schema:
    return {name: value for name, value in schema.items() if name != "discriminator"}


def _tidy(schema: Schema) -> Schema:
    """What msgspec says in Python's words, in those of JSON Schema."""
    if isinstance(schema.get("pattern"), str):
        schema["pattern"] = ecma(schema["pattern"])
    if isinstance(schema.get("description"), str):
        schema["description"] = inspect.cleandoc(schema["description"])
    if schema.get("format") == "decimal":
        forms = [{"type": "string"}, {"type": "number"}]
        return {"anyOf": forms, "description": "a decimal number, better as text"}
    if "enum" in schema and all(isinstance(value, str) for value in schema["enum"]):
        schema = {"type": "string", **schema}
    if schema.get("pattern") == ecma(UUID_TEXT):
        schema["format"] = "uuid"
    return schema


def ecma(pattern: str) -> str:
    r"""A pattern of Python in ECMAScript's grammar, with its `u` flag as JSON Schema asks.

    >>> ecma(r'^[^\"]+\Z')
    '^[^"]+$'
    """
    return pattern.replace(r"\Z", "$").replace(r"\"", '"')
