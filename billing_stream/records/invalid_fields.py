"""The messages of msgspec in words that name the field and the rule, and show no value."""

import re
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import Struct, inspect

from billing_stream.domain.commands import AMOUNT_TEXT, UUID_TEXT


class Rule(StrEnum):
    """What a value does not keep to."""

    REQUIRED = "required"
    UNKNOWN_FIELD = "unknown_field"
    TYPE = "type"
    FORMAT = "format"
    LENGTH = "length"
    RANGE = "range"
    CHOICE = "choice"
    CONFLICT = "conflict"


class InvalidField(Struct, frozen=True):
    """A field, parameter or header that breaks a rule; `message` is for people.

    `field` is its name or path, as in `packs.small`, and empty for the body as a whole.
    """

    field: str
    rule: Rule
    message: str


_FORMS = MappingProxyType(
    {
        UUID_TEXT: "a UUID",
        AMOUNT_TEXT: "a sum of money such as 9.99",
        "^(?=.*[1-9])" + AMOUNT_TEXT[1:]: "a sum of money above 0, such as 9.99",
        r"^[a-zA-Z]{3}\Z": "a currency code",
        r"^[A-Z]{3}\Z": "a currency code in capitals, such as USD",
        r"^[^\x00-\x1f\x7f]+\Z": "text without control characters",
        r"^[1-9][0-9]{0,8}(ms|s|m|h|d)\Z": "a whole number with ms, s, m, h or d, as in 14d",
        r"^[!-~]{1,1024}\Z": "1 to 1,024 printable characters of ASCII",
    }
)
_TYPES = MappingProxyType(
    {
        "str": "text",
        "int": "a whole number",
        "float": "a decimal number",
        "decimal": "a decimal number",
        "bool": "true or false",
        "datetime": "a time",
        "object": "an object",
        "array": "a list",
        "null": "null",
    }
)
_UNITS = MappingProxyType({"str": "characters", "array": "items", "object": "fields"})
_SIGNS = MappingProxyType({">=": "at least", "<=": "at most", ">": "more than", "<": "less than"})
_AT = re.compile(r" - at `(?:key` in `)?\$\.?(?P<path>[^`]*)`$")
_OF_A_NAME = re.compile(
    r"Object (missing required|contains unknown) field `(?P<name>.*)`", re.DOTALL
)
_PLAIN_NAME = re.compile(r"\w{1,64}", re.ASCII)
_WRONG_TYPE = re.compile(r"Expected `(?P<wanted>[^`]+)`, got `(?P<given>[^`]+)`")
_FORM = re.compile(r"Expected `str` matching regex (?P<form>.+)", re.DOTALL)  # prose: ok
_LENGTH = re.compile(r"Expected `(?P<type>\w+)` of length (?P<sign>[<>]=?) (?P<count>\d+)")
_BOUND = re.compile(r"Expected `\w+` (?P<sign>[<>]=?) (?P<bound>-?[\d.]+)")
_OF_FIELDS = ("Expected `", "Object missing ", "Object contains ", "Invalid ")
_OTHER_RULES = (
    ("Object missing", Rule.REQUIRED, "is missing"),
    ("Object contains", Rule.UNKNOWN_FIELD, "is not a field that is known here"),
    ("Expected `datetime` with a timezone", Rule.FORMAT, "must have an offset from UTC, as in Z"),
    ("Invalid RFC3339", Rule.FORMAT, "must be a time such as 2027-01-31T12:00:00Z"),
    ("Invalid decimal", Rule.FORMAT, "must be a decimal number"),
    ("Invalid enum value", Rule.CHOICE, "is not one of the known values"),
    ("Invalid value", Rule.CHOICE, "is not one of the known values"),
    ("Integer value out of range", Rule.RANGE, "is out of range"),
)


def readable(message: str) -> str:
    """The message of a msgspec error, as a person may read it; any other as it is.

    >>> readable("Expected `str`, got `null` - at `$.merchant_id`")
    '`merchant_id` must be text, not null'
    >>> readable("Object missing required field `id` - at `$.data.object`")
    '`data.object.id` is missing'
    """
    return invalid_field(message).message if message.startswith(_OF_FIELDS) else message


def invalid_field(message: str, kind: Any = None) -> InvalidField:
    """The field that the message of a msgspec error is about, and the rule that it breaks.

    `kind` is the type that was decoded: the message then has the values that a choice allows.

    >>> invalid_field("Expected `int` >= 1 - at `$.days`")
    InvalidField(field='days', rule=<Rule.RANGE: 'range'>, message='`days` must be at least 1')
    """
    at = _AT.search(message)
    path = at["path"].replace("[...]", ".*") if at is not None else ""
    text = message[: at.start()] if at is not None else message
    if found := _OF_A_NAME.fullmatch(text):
        # What a client calls a field is not for an answer or a log, unless it is a plain name.
        name = found["name"] if _PLAIN_NAME.fullmatch(found["name"]) else ""
        path = ".".join(filter(None, (path, name)))
    rule, why = _rule(text)
    if rule is Rule.CHOICE and (choices := _choices(kind, path)):
        why = f"must be one of {', '.join(choices)}"
    return InvalidField(path, rule, f"{f'`{path}`' if path else 'the value'} {why}")


def _rule(text: str) -> tuple[Rule, str]:
    if found := _WRONG_TYPE.fullmatch(text):
        return Rule.TYPE, f"must be {_type(found['wanted'])}, not {_type(found['given'])}"
    if found := _FORM.fullmatch(text):
        known = (words for form, words in _FORMS.items() if repr(form) == found["form"])
        return Rule.FORMAT, f"must be {next(known, 'in its documented form')}"
    if found := _LENGTH.fullmatch(text):
        unit = _UNITS.get(found["type"], "items")
        unit = unit.removesuffix("s") if found["count"] == "1" else unit
        return Rule.LENGTH, f"must have {_SIGNS[found['sign']]} {found['count']} {unit}"
    if found := _BOUND.fullmatch(text):
        return Rule.RANGE, f"must be {_SIGNS[found['sign']]} {found['bound']}"
    others = ((rule, words) for start, rule, words in _OTHER_RULES if text.startswith(start))
    return next(others, (Rule.FORMAT, "is invalid"))


def _type(names: str) -> str:
    return " or ".join(_TYPES.get(name, name) for name in names.split(" | "))


def _choices(kind: Any, path: str) -> list[str]:
    """The values of the enum at a path of a struct; none where there is no enum."""
    try:
        for name in path.split("."):
            kind = next(one.type for one in msgspec.structs.fields(kind) if one.name == name)
        types = inspect.multi_type_info([kind])[0]
    except (StopIteration, TypeError):
        return []
    found = types.types if isinstance(types, inspect.UnionType) else (types,)
    return [
        str(value.value) for one in found if isinstance(one, inspect.EnumType) for value in one.cls
    ]
