"""AsyncAPI 3.0: the topics of this service for those who write to them or read them.

Made from the registry of topics and from the structs of the records. The changelogs are private
alone, and so not in it.
"""

from typing import Any

from billing_stream import __version__
from billing_stream.config.settings import Settings
from billing_stream.domain.commands import UUID_TEXT
from billing_stream.records import forwarding, topics
from billing_stream.records.catalogue_records import OLD_ROWS_KEY
from billing_stream.records.examples import examples
from billing_stream.records.json_schemas import (
    Record,
    Schema,
    components,
    ecma,
    inputs,
    outputs,
    rewrite,
)
from billing_stream.records.topics import Role, Topic, Topics

SCHEMAS = "#/components/schemas/{name}"
BINDINGS = "0.5.0"
FORWARDED = "ForwardedRecord"

_ABOUT = """\
What billing reads and writes on Kafka. Values are JSON in UTF-8, keys are text; what has the
same key is read in the order in which it was written. Fields that a producer adds are ignored.
Every event is published once: the same event has the same `event_id`. Read with
`isolation.level=read_committed`: many clients have `read_uncommitted` by default, and would also
read what was taken back.

Where several systems share a cluster, BILLING_TOPIC_PREFIX stands before every name.
"""
_MERCHANT_KEY = {
    "type": "string",
    "description": "the merchant id",
    "pattern": ecma(UUID_TEXT),
}
_KEYS: dict[str, Schema] = {
    "merchant_id": _MERCHANT_KEY,
    "platform:domain": {
        "type": "string",
        "description": "the shop, `platform:domain` in lower case",
        "pattern": "^[^:]+:.+$",
    },
    "topic[partition]": {
        "type": "string",
        "description": "the input, `topic[partition]`; its partition is that of the record too",
    },
    "what it is": {"type": "string", "const": OLD_ROWS_KEY},
    "merchant_id, or none": {"description": "the merchant id of an entry; an order has no key"},
    "session": {"type": "string", "description": "the id of the session"},
    "endpoint": {"type": "string", "description": "the id of the endpoint"},
    "dead letter": {
        "type": "string",
        "description": "where the dead letter is, `topic[partition]@offset`",
    },
}
_ANY_KEY: Schema = {"description": "as it came; it may be missing"}


def document(topics: Topics, partitions: int | None = None) -> dict[str, Any]:
    """The document for the topics of one app; `partitions` by default as in the settings."""
    written = {record.name: record for record in (*inputs(), *outputs())}
    channels = [topic for topic in topics.all() if topic.role is not Role.CHANGELOG]
    named: dict[str, Schema] = {}
    messages: dict[str, Any] = {}
    for topic in channels:
        record = written[topics.base(topic.name)]
        payload, found = components(record.types, SCHEMAS)
        named.update(found)
        messages[record.title] = _message(topic, record, payload)
    messages[FORWARDED] = _forwarded()
    bases = {topics.base(topic.name): topic for topic in channels}
    count = partitions or int(Settings.model_fields["partitions"].default)
    document = {
        "asyncapi": "3.0.0",
        "id": "urn:billing-stream",
        "info": {
            "title": "billing-stream",
            "version": __version__,
            "description": _ABOUT,
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "channels": {
            base: _channel(topic, _titles(base, written), count) for base, topic in bases.items()
        },
        "operations": _operations(bases, written),
        "components": {"messages": messages, "schemas": dict(sorted(named.items()))},
    }
    found_document: dict[str, Any] = rewrite(document, _draft_07)
    return found_document


def _titles(base: str, written: dict[str, Record]) -> list[str]:
    titles = [written[base].title]
    return [*titles, FORWARDED] if base == topics.COMMANDS else titles


def _channel(topic: Topic, titles: list[str], partitions: int) -> dict[str, Any]:
    return {
        "address": topic.name,
        "title": topic.name,
        "summary": f"{topic.role.capitalize()}; written by: {topic.writer}",
        "messages": {title: {"$ref": f"#/components/messages/{title}"} for title in titles},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": partitions,
                "topicConfiguration": {
                    name: _config(name, value) for name, value in topic.config.items()
                },
                "bindingVersion": BINDINGS,
            }
        },
    }


def _config(name: str, value: str) -> Any:
    if name == "cleanup.policy":
        return value.split(",")
    return int(value) if value.lstrip("-").isdigit() else value


def _operations(bases: dict[str, Topic], written: dict[str, Record]) -> dict[str, Any]:
    found = {}
    for base, topic in bases.items():
        title = written[base].title
        if topic.role is Role.INPUT:
            found[f"receive{title}"] = _operation("receive", base, _titles(base, written), topic)
        else:
            found[f"send{title}"] = _operation("send", base, [title], topic)
        if base == topics.COMMANDS:
            found[f"send{FORWARDED}"] = _operation("send", base, [FORWARDED], topic)
        if base in (topics.SHOPS, topics.CHARGES):
            found[f"send{title}"] = _operation("send", base, [title], topic)
    return found


def _operation(action: str, base: str, titles: list[str], topic: Topic) -> dict[str, Any]:
    verb = "Read from" if action == "receive" else "Written to"
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{base}"},
        "summary": f"{verb} `{topic.name}`",
        "messages": [{"$ref": f"#/channels/{base}/messages/{title}"} for title in titles],
    }


def _message(topic: Topic, record: Record, payload: list[Schema]) -> dict[str, Any]:
    found = {
        "name": record.title,
        "title": record.title,
        "summary": record.description.split("\n")[0],
        "description": record.description,
        "contentType": "application/json",
        "payload": payload[0] if len(payload) == 1 else {"anyOf": payload},
        "bindings": {"kafka": {"key": _KEYS.get(topic.key, _ANY_KEY), "bindingVersion": BINDINGS}},
        "examples": [
            {"name": example.name, "payload": example.value}
            | ({"headers": example.headers} if example.headers else {})
            for example in examples()[record.name]
        ],
    }
    if topic.role is Role.EVENT:
        found["headers"] = _EVENT_HEADERS
    if topic.role is Role.EVENT or (topic.role is Role.INPUT and len(payload) > 1):
        found["correlationId"] = {"location": "$message.payload#/correlation_id"}
    return found


_EVENT_HEADERS = {
    "type": "object",
    "properties": {
        "sequence": {
            "type": "string",
            "pattern": "^[1-9][0-9]*$",
            "description": "numbers the events of a merchant 1, 2, 3 … without gaps",
        },
        "cause": {
            "type": "string",
            "description": "the record that caused it, `topic[partition]@offset`, "
            "or http, timer or cli",
        },
        "traceparent": {
            "type": "string",
            "description": "of W3C Trace Context: the decision, when it was traced",
        },
    },
    "required": ["sequence", "cause"],
}


def _forwarded() -> dict[str, Any]:
    source = topics.PURCHASE_UPDATED
    example = examples()[source][0]
    payloads = ("MerchantCreated", "PurchaseUpdated", "PurchaseRefundedIn")
    return {
        "name": FORWARDED,
        "title": FORWARDED,
        "summary": "A record that stood on another partition than its merchant's, "
        "or a dead letter that is redriven",
        "description": "Of any input topic, as it came; its headers say where from.",
        "contentType": "application/json",
        "headers": {
            "type": "object",
            "properties": {
                forwarding.FORWARDED_TOPIC: {
                    "type": "string",
                    "enum": list(topics.OF_MERCHANTS),
                    "description": "the topic of the original record",
                },
                forwarding.FORWARDED_FROM: {
                    "type": "string",
                    "description": "where it stood, `topic[partition]@offset`",
                },
                forwarding.REDRIVEN_FROM: {
                    "type": "string",
                    "maxLength": forwarding.LETTER_CHARS_MAX,
                    "description": "the dead letter it is a copy of, `topic[partition]@offset`; "
                    "however many copies there are, one is carried out",
                },
            },
            "anyOf": [
                {"required": [forwarding.FORWARDED_TOPIC, forwarding.FORWARDED_FROM]},
                {"required": [forwarding.REDRIVEN_FROM]},
            ],
        },
        "payload": {
            "anyOf": [
                {"$ref": f"#/components/messages/{title}/payload"}
                for title in (*payloads, "Command")
            ]
        },
        "bindings": {"kafka": {"key": _MERCHANT_KEY, "bindingVersion": BINDINGS}},
        "examples": [
            {
                "name": source,
                "payload": example.value,
                "headers": {
                    forwarding.FORWARDED_TOPIC: source,
                    forwarding.FORWARDED_FROM: f"{source}[3]@71",
                },
            },
            {
                "name": "redriven",
                "payload": example.value,
                "headers": {
                    forwarding.FORWARDED_TOPIC: source,
                    forwarding.REDRIVEN_FROM: f"{topics.DEAD_LETTERS}[3]@17",
                },
            },
        ],
    }


def _draft_07(schema: Schema) -> Schema:
    """What JSON Schema 2020-12 says otherwise than draft 7, which AsyncAPI speaks."""
    if "prefixItems" in schema:
        schema["additionalItems"] = schema.pop("items", True)
        schema["items"] = schema.pop("prefixItems")
    if isinstance(schema.get("discriminator"), dict):
        schema["discriminator"] = schema["discriminator"]["propertyName"]
    return schema
