"""Dead letters in text, for a terminal, and as JSON, for other programs."""

import base64
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import UNSET

from billing_stream.console.tables import table_lines
from billing_stream.ops.dead_letters.acting import ActionResult
from billing_stream.ops.dead_letters.dead_letter_history import DeadLetterHistory
from billing_stream.ops.dead_letters.entries import DeadLetterEntry, kind_of
from billing_stream.plain_text import clean_line
from billing_stream.records.dead_letters import DeadLetter, DeadLetterAction
from billing_stream.records.invalid_fields import readable
from billing_stream.records.record_ref import RecordRef

KINDS_MAX = 20
BYTES_PER_LINE = 16
DUMP_BYTES_MAX = 4096
_HEADS = ("LETTER", "WHEN", "STATE", "MERCHANT", "RECORD", "REASON")


def short(letter: DeadLetterEntry) -> str:
    """A letter's place without the topic, as the commands take it: `3@17`."""
    return f"{letter.partition}@{letter.offset}"


def table(found: Sequence[DeadLetterHistory]) -> Iterator[str]:
    """A line for each, when there is any."""
    rows = [
        (
            short(one.letter),
            _moment(one.letter.at),
            str(one.state),
            one.letter.merchant or "-",
            one.letter.source,
            readable(one.letter.record.reason),
        )
        for one in found
    ]
    return table_lines(_HEADS, rows) if rows else iter(())


def summary(found: Iterable[DeadLetterHistory]) -> Iterator[str]:
    """How many there are, by what became of them and by why they are dead."""
    letters = list(found)
    states = Counter(str(one.state) for one in letters)
    told = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    yield f"{len(letters):,} dead letters" + (f": {told}" if told else "")
    kinds = Counter(clean_line(kind_of(one.letter.record.reason)) for one in letters)
    for kind, count in kinds.most_common(KINDS_MAX):
        yield f"{count:>8,}  {kind}"
    if len(kinds) > KINDS_MAX:
        yield f"          and {len(kinds) - KINDS_MAX} more reasons"


def whole(found: DeadLetterHistory, following: Sequence[DeadLetterEntry]) -> Iterator[str]:
    """All that is known of one letter."""
    letter, record = found.letter, found.letter.record
    yield f"dead letter  {letter.ref}"
    yield f"since        {_moment(letter.at)}"
    yield f"state        {found.state}"
    yield f"reason       {clean_line(readable(record.reason))}"
    yield f"record       {letter.source}, of {_moment(record.timestamp)}"
    if found.came_of is not None:
        yield f"             a copy of {found.came_of.letter}, {_done(found.came_of)}"
    if letter.root != letter.ref:
        yield f"first letter {letter.root}"
    yield f"merchant     {letter.merchant or 'unknown'}"
    yield f"key          {_text(record.key)}"
    for name, held in record.headers:
        yield f"header       {clean_line(name)}: {_text(held)}"
    yield from _history(found, following)
    yield f"value        {'null' if record.value is None else f'{value_bytes(record):,} bytes'}"
    yield from record_lines(record)


def value_bytes(record: DeadLetter) -> int | None:
    """The size of the value of the record, of which the letter may hold a part."""
    if record.truncated is not UNSET:
        return record.truncated.value_bytes
    return None if record.value is None else len(record.value)


def record_lines(record: DeadLetter) -> Iterator[str]:
    """What a letter leaves out of its record; and the value, or how it begins."""
    value, truncated = record.value, record.truncated
    if truncated is not UNSET:
        yield (
            f"the dead letter holds {len(value or b''):,} bytes of the value and "
            f"{len(record.headers)} headers; the record has {truncated.record_bytes:,} bytes and "
            f"is at {RecordRef.of(record)}"
        )
        yield f"SHA-256 of the value: {truncated.value_sha256}"
    yield from value_lines(value)


def value_lines(value: bytes | None) -> Iterator[str]:
    """A value as JSON that people can read, or else its bytes."""
    if value is None:
        return
    try:
        # Only the spaces change: numbers are money here.
        lines = msgspec.json.format(value, indent=2).decode().splitlines()
        yield from map(clean_line, lines)
    except (ValueError, RecursionError):
        yield from _dump(value[:DUMP_BYTES_MAX])
        if len(value) > DUMP_BYTES_MAX:
            yield f"... and {len(value) - DUMP_BYTES_MAX:,} more bytes; --value-to writes all"


def as_json(found: DeadLetterHistory) -> dict[str, Any]:
    """For other programs; key and value are text, or base64 where they are none."""
    letter, record = found.letter, found.letter.record
    return {
        "letter": letter.ref,
        "at": letter.at.isoformat(),
        "state": str(found.state),
        "reason": record.reason,
        "kind": kind_of(record.reason),
        "merchant_id": letter.merchant,
        "record": {
            "place": letter.source,
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "timestamp": record.timestamp.isoformat(),
            **_text_or_base64("key", record.key),
            **_text_or_base64("value", record.value),
            "headers": [
                {"name": n, **_text_or_base64("value", held)} for n, held in record.headers
            ],
            "truncated": (
                None if record.truncated is UNSET else msgspec.to_builtins(record.truncated)
            ),
        },
        "first_letter": letter.root,
        "history": [_action_json(action) for action in found.history],
        "came_of": _action_json(found.came_of) if found.came_of is not None else None,
    }


def outcome_line(outcome: ActionResult) -> str:
    """What became of a letter, or would."""
    letter = short(outcome.letter)
    if outcome.refused is not None:
        return f"{letter}: left alone: {clean_line(outcome.refused)}"
    what = f", {outcome.what}" if outcome.what else ""
    if outcome.action is None:
        return f"{letter}: can be done{what}"
    target = f" as {outcome.action.target}" if outcome.action.target else ""
    return f"{letter}: {outcome.action.action}{target}{what}"


def _history(found: DeadLetterHistory, following: Sequence[DeadLetterEntry]) -> Iterator[str]:
    again = {letter.source: letter for letter in following}
    for action in found.history:
        yield f"history      {_done(action)}"
        if action.target is not None:
            edited = " with another value" if action.edited else ""
            yield f"             sent as {action.target}{edited}"
            dead = again.get(action.target)
            if dead is not None:
                reason = clean_line(readable(dead.record.reason))
                yield f"             dead again as {short(dead)}: {reason}"


def _done(action: DeadLetterAction) -> str:
    by, reason = clean_line(action.by), clean_line(action.reason)
    return f"{action.action} by {by} at {_moment(action.at)}: {reason}"


def _action_json(action: DeadLetterAction) -> Any:
    return msgspec.to_builtins(action)


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}Z"


def _text(raw: bytes | None) -> str:
    if raw is None:
        return "null"
    try:
        return clean_line(raw.decode())
    except UnicodeDecodeError:
        return f"0x{raw.hex()}"


def _text_or_base64(name: str, raw: bytes | None) -> dict[str, str | None]:
    if raw is None:
        return {name: None}
    try:
        return {name: raw.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(raw).decode()}


def _dump(raw: bytes) -> Iterator[str]:
    for start in range(0, len(raw), BYTES_PER_LINE):
        line = raw[start : start + BYTES_PER_LINE]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in line)
        yield f"{start:08x}  {line.hex(' ').ljust(BYTES_PER_LINE * 3)} {text}"
