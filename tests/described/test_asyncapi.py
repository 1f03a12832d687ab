"""The description of the topics is well-formed, complete, and true of the code."""

import json
from pathlib import Path
from typing import Any, cast, get_args

import msgspec
import pytest
from jsonschema import Draft7Validator, Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

from billing_stream.agents import inputs
from billing_stream.domain import outcomes
from billing_stream.domain.commands import Command
from billing_stream.domain.model import Merchant, Platform, Purchase, PurchaseStatus
from billing_stream.domain.shops import Shop
from billing_stream.errors import InvalidRecord
from billing_stream.records import asyncapi, dead_letters, json_schemas, schemas, topics
from billing_stream.records.examples import (
    DOMAIN,
    ENDS_AT,
    MERCHANT_ID,
    NOW,
    PURCHASE_ID,
    Example,
    examples,
)
from billing_stream.records.operator_commands import BY_OPERATORS
from billing_stream.records.topics import Role, Topics
from billing_stream.records.transaction_order import TransactionOrder
from billing_stream.tables import codecs
from tests.described.validation import errors
from tests.support.partition import Record

SPECIFICATION = Path(__file__).parent / "asyncapi-3.0.0.json"
TOPICS = Topics("app")
DOCUMENT = asyncapi.document(TOPICS)
RECORDS = json_schemas.document()
EXAMPLES = [(topic, example) for topic, found in examples().items() for example in found]
INPUTS = [(topic, example) for topic, example in EXAMPLES if topic in topics.INPUTS]
EVENTS = {topics.event_type(kind): data for kind, data in json_schemas.EVENTS.items()}

each_example = pytest.mark.parametrize(
    ("topic", "example"), EXAMPLES, ids=[f"{topic}:{e.name}" for topic, e in EXAMPLES]
)


def wrong_in_asyncapi(place: str, value: Any) -> list[str]:
    """What is wrong with the value, by the schema at a place of the document."""
    resource = Resource.from_contents(DOCUMENT, default_specification=DRAFT7)
    registry = cast(Any, Registry()).with_resource("urn:asyncapi", resource)
    validator = Draft7Validator(
        {"$ref": f"urn:asyncapi#{place}"},
        registry=registry,
        format_checker=Draft7Validator.FORMAT_CHECKER,
    )
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]


def message_of(topic: str) -> str:
    """The name of the first message of a channel."""
    return str(next(iter(DOCUMENT["channels"][topic]["messages"])))


def decoded(topic: str, value: Any) -> Any:
    """What our own code reads."""
    record = Record(TOPICS.name(topic), 7, msgspec.json.encode(value))
    return schemas.decode(topic, record, 100_000).payload


@pytest.mark.parametrize("declared", inputs.INPUTS, ids=lambda declared: declared.name)
def test_inputs_are_declared_as_they_are_decoded(declared: inputs.Input) -> None:
    found = [example.value for topic, example in INPUTS if topic == declared.topic]
    assert found
    for value in found:
        payload = schemas.payload_of(msgspec.json.encode(value))
        read = decoded(declared.topic, value)
        # Of shops one has a tag and one has none, which makes no union of msgspec.
        own = type(read) if declared.topic == topics.SHOPS else declared.payload
        msgspec.json.decode(payload, type=own)
        assert isinstance(read, declared.becomes)


def test_it_is_valid_asyncapi_3() -> None:
    specification = json.loads(SPECIFICATION.read_text())

    assert [e.message for e in Draft7Validator(specification).iter_errors(DOCUMENT)] == []


def test_every_reference_leads_somewhere() -> None:
    def look(value: Any) -> None:
        if isinstance(value, dict):
            if "$ref" in value:
                found = DOCUMENT
                for name in value["$ref"].removeprefix("#/").split("/"):
                    found = found[name]
            for inner in value.values():
                look(inner)
        elif isinstance(value, list):
            for inner in value:
                look(inner)

    look(DOCUMENT)


def test_every_topic_but_the_changelogs_is_a_channel_as_it_is_created() -> None:
    for topics_of in (TOPICS, Topics("app", "test.")):
        channels = asyncapi.document(topics_of, partitions=12)["channels"]
        wanted = {t.name: t for t in topics_of.all() if t.role is not Role.CHANGELOG}

        assert {channel["address"] for channel in channels.values()} == set(wanted)
        for channel in channels.values():
            kafka = channel["bindings"]["kafka"]
            config = {
                name: ",".join(value) if isinstance(value, list) else str(value)
                for name, value in kafka["topicConfiguration"].items()
            }
            assert config == wanted[channel["address"]].config
            assert kafka["partitions"] == 12


def test_every_channel_is_read_or_written_by_whom_the_registry_says() -> None:
    done: dict[str, set[str]] = {}
    for operation in DOCUMENT["operations"].values():
        channel = operation["channel"]["$ref"].removeprefix("#/channels/")
        done.setdefault(channel, set()).add(operation["action"])
    ours = {topics.COMMANDS, topics.SHOPS, topics.CHARGES}

    for topic in TOPICS.all():
        if topic.role is Role.INPUT:
            both = {"receive", "send"} if topic.name in ours else {"receive"}
            assert done[topic.name] == both
        elif topic.role is not Role.CHANGELOG:
            assert done[topic.name] == {"send"}


def test_every_topic_has_examples() -> None:
    assert set(examples()) == set(DOCUMENT["channels"])
    commands = {example.name for example in examples()[topics.COMMANDS]}
    assert len(commands) == len(get_args(Command)) - len(BY_OPERATORS)


@each_example
def test_examples_are_as_described(topic: str, example: Example) -> None:
    place = f"/components/messages/{message_of(topic)}"

    assert wrong_in_asyncapi(f"{place}/payload", example.value) == []
    assert errors(RECORDS[topic], example.value) == []
    if example.headers is not None:
        assert wrong_in_asyncapi(f"{place}/headers", example.headers) == []


@pytest.mark.parametrize(
    ("topic", "example"), INPUTS, ids=[f"{topic}:{e.name}" for topic, e in INPUTS]
)
def test_our_own_decoder_reads_the_examples_of_inputs(topic: str, example: Example) -> None:
    payload = decoded(topic, example.value)

    if topic == topics.OPERATOR_COMMANDS and not isinstance(payload, BY_OPERATORS):
        assert getattr(payload, "set", payload).by == "ann@host"
    else:
        assert payload.merchant_id == MERCHANT_ID
    if topic in (topics.COMMANDS, topics.OPERATOR_COMMANDS):
        assert type(payload).__struct_config__.tag == example.name


def test_bare_and_enveloped_say_the_same() -> None:
    for topic, found in examples().items():
        if {"bare", "enveloped"} == {example.name for example in found}:
            assert len({decoded(topic, example.value) for example in found}) == 1


@pytest.mark.parametrize("topic", list(EVENTS))
def test_events_are_described_to_the_last_field(topic: str) -> None:
    envelope = json_schemas.event_envelope(EVENTS[topic], topic)
    for example in examples()[topic]:
        read: Any = msgspec.convert(example.value, envelope)

        assert msgspec.to_builtins(read) == example.value
        for name in example.value:
            less = {key: value for key, value in example.value.items() if key != name}
            assert errors(RECORDS[topic], less) != [], name
        assert errors(RECORDS[topic], {**example.value, "event_type": "other"}) != []


@pytest.mark.parametrize(
    ("topic", "kind"),
    [(topics.JOURNAL, schemas.JournalEntry), (topics.DEAD_LETTERS, dead_letters.DeadLetter)],
)
def test_journal_and_dead_letters_are_read_back(topic: str, kind: type) -> None:
    for example in examples()[topic]:
        order = example.value.get("kind") == "transaction_order"
        read: Any = msgspec.convert(example.value, TransactionOrder if order else kind)
        assert msgspec.json.decode(schemas.encode(read)) == example.value


@pytest.mark.parametrize(
    ("topic", "changed"),
    [
        (topics.MERCHANT_CREATED, {"merchant_id": "not-a-uuid"}),
        (topics.MERCHANT_CREATED, {"domain": 7}),
        (topics.MERCHANT_CREATED, {"platform_name": []}),
        (topics.PURCHASE_UPDATED, {"status": 1}),
        (topics.PURCHASE_UPDATED, {"charge_id": "c" * 256}),
        (topics.PURCHASE_REFUNDED, {"amount": True}),
        (topics.COMMANDS, {"command": "delete_merchant"}),
        (topics.COMMANDS, {"platform": 7}),
        (topics.SHOPS, {"merchant_id": None}),
    ],
)
def test_what_the_description_forbids_is_a_dead_letter(topic: str, changed: Any) -> None:
    value = {**examples()[topic][0].value, **changed}

    assert errors(RECORDS[topic], value) != []
    with pytest.raises(InvalidRecord):
        decoded(topic, value)


def test_records_are_described_in_json_schema_2020_12() -> None:
    ids = set()
    for name, schema in RECORDS.items():
        Draft202012Validator.check_schema(schema)
        assert schema["$schema"] == json_schemas.DIALECT
        assert schema["title"]
        assert schema["description"]
        assert name in schema["$id"]
        ids.add(schema["$id"])
    assert len(ids) == len(RECORDS)


def test_every_topic_and_every_table_is_described() -> None:
    assert set(RECORDS) == set(DOCUMENT["channels"]) | set(topics.TABLES)


def test_rows_are_described_as_they_are_written() -> None:
    purchase = Purchase(
        id=PURCHASE_ID,
        merchant_id=MERCHANT_ID,
        credits=100,
        amount="9.99",
        status=PurchaseStatus.PENDING,
        platform=Platform.SHOPIFY,
        created_at=NOW,
        expires_at=ENDS_AT,
    )
    granted = outcomes.TrialGranted(ENDS_AT, 500)
    rows: dict[str, list[Any]] = {
        topics.BILLING_RECORDS: [
            Merchant(merchant_id=MERCHANT_ID),
            Merchant(merchant_id=MERCHANT_ID, domain=DOMAIN, trial_ends_at=ENDS_AT, version=2),
        ],
        topics.CREDIT_PURCHASES: [purchase],
        topics.IDEMPOTENCY_KEYS: [
            outcomes.StoredResponse(MERCHANT_ID, "k", "f" * 32, granted, NOW)
        ],
    }
    decoders: dict[str, Any] = {
        topics.BILLING_RECORDS: codecs.merchant,
        topics.CREDIT_PURCHASES: codecs.purchase,
        topics.IDEMPOTENCY_KEYS: codecs.answer,
    }
    for table, found in rows.items():
        for row in found:
            written = schemas.encode(row)
            assert errors(RECORDS[table], msgspec.json.decode(written)) == []
            assert decoders[table].decode(written) == row
        assert errors(RECORDS[table], {}) != []
    shop = schemas.encode(Shop(MERCHANT_ID, "7", NOW))
    assert errors(RECORDS[topics.SHOPS_TABLE], msgspec.json.decode(shop)) == []
