"""The page of the topics shows the topics that there are, with their fields."""

import re
from pathlib import Path

import msgspec

from billing_stream.records import topics
from billing_stream.records.endpoint_changes import EndpointChanged
from billing_stream.records.json_schemas import EVENTS

PAGE = (Path(__file__).parents[2] / "docs" / "events.md").read_text()
ROWS = {
    topic: re.findall(r"`(\w+)`", data)
    for names, data in re.findall(r"^\| (`.+?`) \| (.+) \|$", PAGE, re.M)
    for topic in re.findall(r"`([^`]+)`", names)
}


def test_every_event_is_listed_with_its_fields() -> None:
    listed = {topic: fields for topic, fields in ROWS.items() if topic.startswith("evt.billing.")}

    assert listed == {
        topics.event_type(kind): [field.name for field in msgspec.structs.fields(data)]
        for kind, data in EVENTS.items()
    } | {topics.ENDPOINT_CHANGED: [field.name for field in msgspec.structs.fields(EndpointChanged)]}


def test_every_topic_is_listed() -> None:
    # Workers read and write the shops among themselves.
    others = set(topics.INPUTS) - {topics.SHOPS}
    others |= {
        topics.JOURNAL,
        topics.DEAD_LETTERS,
        topics.DEAD_LETTER_ACTIONS,
        topics.ENDED_SESSIONS,
        topics.CATALOGUE,
    }

    assert others <= set(ROWS)
    assert {topics.event_type(kind) for kind in topics.EVENT_TYPES} <= set(ROWS)
