"""The messages of msgspec in words that name the field and the rule, and show no value."""

import re
from types import MappingProxyType

from billing_stream.domain.commands import AMOUNT_TEXT, UUID_TEXT

_FORMS = MappingProxyType(
    {
        UUID_TEXT: "a UUID",
        AMOUNT_TEXT: "a sum of money such as 9.99",
        r"^[a-zA-Z]{3}\Z": "a currency code",
    }
)
_TYPES = MappingProxyType(
    {
        "str": "text",
        "int": "a whole number",
        "float": "a number",
        "decimal": "a decimal number",
        "bool": "true or false",
        "object": "an object",
        "array": "a list",
        "null": "null",
    }
)
_AT = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_MISSING = re.compile(r"Object missing required field `(?P<name>[^`]+)`")
_WRONG_TYPE = re.compile(r"Expected `(?P<wanted>[^`]+)`, got `(?P<given>[^`]+)`")
_FORM = re.compile(r"Expected `str` matching regex (?P<form>.+)", re.DOTALL)
_LENGTH = re.compile(r"Expected `str` of length (?P<sign>[<>]=) (?P<count>\d+)")
_BOUND = re.compile(r"Expected `\w+` (?P<sign>[<>]=?) (?P<bound>-?\d+)")
_SIGNS = MappingProxyType({">=": "at least", "<=": "at most", ">": "more than", "<": "less than"})
_OF_FIELDS = ("Expected `", "Object missing ", "Invalid ")


def readable(message: str) -> str:
    """The message of a msgspec error, as a person may read it; any other as it is.

    >>> readable("Expected `str`, got `null` - at `$.merchant_id`")
    '`merchant_id` must be text, not null'
    >>> readable("Object missing required field `id` - at `$.data.object`")
    '`data.object.id` is missing'
    """
    if not message.startswith(_OF_FIELDS):
        return message
    at = _AT.search(message)
    path = at["path"] if at is not None else ""
    rule = message[: at.start()] if at is not None else message
    if found := _MISSING.fullmatch(rule):
        return f"`{path}.{found['name']}` is missing" if path else f"`{found['name']}` is missing"
    return f"{f'`{path}`' if path else 'the value'} {_rule(rule)}"


def _rule(rule: str) -> str:
    if found := _WRONG_TYPE.fullmatch(rule):
        return f"must be {_type(found['wanted'])}, not {_type(found['given'])}"
    if found := _FORM.fullmatch(rule):
        known = (text for form, text in _FORMS.items() if repr(form) == found["form"])
        return f"must be {next(known, 'in its documented form')}"
    if found := _LENGTH.fullmatch(rule):
        return f"must have {_SIGNS[found['sign']]} {found['count']} characters"
    if found := _BOUND.fullmatch(rule):
        return f"must be {_SIGNS[found['sign']]} {found['bound']}"
    if rule.startswith("Invalid enum value"):
        return "is not one of the known values"
    if rule.startswith("Invalid decimal"):
        return "must be a decimal number"
    return "is invalid"


def _type(names: str) -> str:
    return " or ".join(_TYPES.get(name, name) for name in names.split(" | "))
