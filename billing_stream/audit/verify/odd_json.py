"""The payload of an input record, also where its JSON is odd: fields twice, or not in UTF-8.

Fields that a producer adds are ignored, also where they cannot be read.
"""

import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from billing_stream.audit.verify.releases import FIELDS

# Every field of an input that means something.
_KNOWN = frozenset(
    (
        "command",
        "merchant_id",
        "platform_name",
        "platform",
        "domain",
        "charge_id",
        "status",
        "purchase_id",
        "amount",
        "pack",
        "return_url",
        "cancel_url",
        "idempotency_key",
        "checkout_url",
        "reason",
        "command_id",
        "credits",
        "to",
        "gone",
        "uninstalled",
        "again",
        "if_free",
        "platform_shop_id",
        "installed_at",
        "triggered_at",
        "shop",
        "most",
        "merchant_note",
        "topic",
        "partition",
        "offset",
        "by",
        "packs",
        "effective_at",
        "set",
        "currency",
        "test",
        "charge_amount",
        "refund_id",
        "dispute_id",
        "ends_at",
        "days",
        "record",
        "payload",
        "shop",
        "granted",
        "why",
        "once_per",
        *FIELDS,
    )
)
# Not in a command: an invalid value of these is unknown, and of several values the last counts.
_LENIENT = frozenset(("platform_shop_id", "installed_at"))
# Takes the place of bytes that are not UTF-8. No text has it: Unicode keeps it free.
_MARK = "\U0010ffff"
_NOT_UTF_8 = dict.fromkeys(range(0xDC80, 0xDD00), _MARK)
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_ANY_KNOWN = re.compile(rb'"(%s)"' % "|".join(sorted(_KNOWN)).encode())
_decode = msgspec.json.Decoder(float_hook=Decimal).decode


class InvalidInput(ValueError):
    """The record cannot be understood: it belongs into the dead letters."""


def payloads(value: bytes) -> list[Mapping[str, Any]]:
    """The payload. Before it, where fields occur more than once: it with each earlier value.

    Raises InvalidInput when there is no payload.
    """
    value = value.removeprefix(_BYTE_ORDER_MARK)
    found = _ANY_KNOWN.findall(value)
    try:
        if len(found) == len(set(found)):
            return [_payload_in(_decode(value))]
    except (ValueError, RecursionError, InvalidOperation):
        pass
    try:
        return _odd(value)
    except (ValueError, RecursionError, InvalidOperation) as error:
        raise InvalidInput(str(error)) from None


class _Pairs(dict[str, Any]):
    """An object of JSON. `every` has all its fields, also those that occur again later."""

    def __init__(self, every: list[tuple[str, Any]]) -> None:
        super().__init__(every)
        self.every = every


class _Number(str):
    """A number as it is written."""


def _odd(value: bytes) -> list[Mapping[str, Any]]:
    text = value.decode("utf-8", "surrogateescape").translate(_NOT_UTF_8)
    whole = json.loads(
        text,
        object_pairs_hook=_Pairs,
        parse_int=_Number,
        parse_float=_Number,
        parse_constant=_refused,
    )
    payload = _payload_in(whole)
    lenient = frozenset[str]() if "command" in payload else _LENIENT
    strict = _KNOWN - lenient
    known = _Pairs([(name, held) for name, held in payload.every if name in strict])
    others = {name: _plain_or_none(payload[name]) for name in lenient & payload.keys()}
    last = _plain(known) | others
    # Only of what counts must each text be whole.
    json.dumps(last, ensure_ascii=False, default=str).encode()
    return [*(_plain(one) | others for one in _earlier(known)), last]


def _earlier(held: Any) -> Iterator[Any]:
    """What it would be with each value that a later one of the same name replaces."""
    if isinstance(held, _Pairs):
        for name, one in held.every:
            if one is not held[name]:
                yield {**held, name: one}
            for other in _earlier(one):
                yield {**held, name: other}
    elif isinstance(held, list):
        for at, one in enumerate(held):
            for other in _earlier(one):
                yield [*held[:at], other, *held[at + 1 :]]


def _payload_in(whole: Any) -> Any:
    if not isinstance(whole, dict):
        raise InvalidInput("not an object")
    data = whole.get("data")
    # A bare payload may have a field `data` of its own.
    enveloped = isinstance(data, dict) and "merchant_id" in data
    payload = whole if "data" not in whole or ("merchant_id" in whole and not enveloped) else data
    if not isinstance(payload, dict):
        raise InvalidInput("the data are not an object")
    return payload


def _plain(held: Any) -> Any:
    """As a strict reader has it. Raises ValueError."""
    if isinstance(held, _Number):
        return _decode(held.encode())
    if isinstance(held, dict):
        return {_plain(name): _plain(one) for name, one in held.items()}
    if isinstance(held, list):
        return [_plain(one) for one in held]
    if isinstance(held, str) and _MARK in held:
        raise ValueError("a text is not UTF-8")
    return held


def _plain_or_none(held: Any) -> Any:
    try:
        found = _plain(held)
        json.dumps(found, ensure_ascii=False, default=str).encode()
    except (ValueError, InvalidOperation):
        return None
    return found


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
