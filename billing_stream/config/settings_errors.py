"""Messages about wrong settings, for the people who set them. They show no values."""

import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

# So that what is wrong besides is found where a required variable is wrong.
_STAND_INS: Mapping[str, Callable[[], str]] = {
    "APP_ENV": lambda: "development",
    "KAFKA_BOOTSTRAP_SERVERS": lambda: "localhost:9092",
    "CLIENT_JWT_SECRET": secrets.token_hex,
    "INTERNAL_JWT_SECRET": secrets.token_hex,
}


def settings_errors(
    error: ValidationError, settings: type[BaseModel], read: Callable[[dict[str, Any]], object]
) -> Iterator[str]:
    """A line for each variable that is missing or malformed, by its name; then other problems.

    `read` reads all settings once more, those of its argument, by variable, instead of the given.
    """
    fields = {str(f.validation_alias): f for f in settings.model_fields.values()}
    yield from _lines(error, fields)
    wrong = {name for problem in error.errors() if (name := _name(problem)) in fields}
    if not wrong:
        return
    known = {
        name: _STAND_INS[name]() if name in _STAND_INS else fields[name].default for name in wrong
    }
    try:
        read(known)
    except ValidationError as more:
        for line in _lines(more, fields):
            if not any(name in line.split() for name in wrong):
                yield line


def _lines(error: ValidationError, fields: Mapping[str, Any]) -> Iterator[str]:
    for problem in error.errors(include_input=False):
        name = _name(problem)
        message = _message(problem, fields[name].description if name in fields else None)
        yield from [f"{name}: {message}"] if name else message.splitlines()


def _name(problem: Any) -> str:
    return ".".join(str(part) for part in problem["loc"])


def _message(problem: Any, description: str | None) -> str:
    match problem["type"]:
        case "missing":
            return "is not set"
        case "string_pattern_mismatch":
            return f"is not of the right form: {description}"
        case "too_short":
            # Of a secret, whose "items" nobody would take for characters.
            return f"must have {problem['ctx']['min_length']} characters at least"
        case "int_parsing":
            return "must be a whole number"
        case "bool_parsing":
            return "must be true or false"
    message = str(problem["msg"]).removeprefix("Value error, ")
    return message.replace("Input should be", "must be")
