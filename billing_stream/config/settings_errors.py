"""What is said of settings that are not right: in words for whoever set them, and no values."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError


def settings_errors(error: ValidationError, settings: type[BaseModel]) -> Iterator[str]:
    """A line for each variable that is missing or malformed, by its name."""
    what = {str(f.validation_alias): f.description for f in settings.model_fields.values()}
    for problem in error.errors(include_input=False):
        name = ".".join(str(part) for part in problem["loc"]) or "together"
        yield f"{name}: {_said(problem, what.get(name))}"


def _said(problem: Any, description: str | None) -> str:
    match problem["type"]:
        case "missing":
            return "is not set"
        case "string_pattern_mismatch":
            return f"is not of the right form: {description}"
        case "too_short":
            # Of a secret, whose "items" nobody would take for characters.
            return f"must have {problem['ctx']['min_length']} characters at least"
    return str(problem["msg"]).removeprefix("Value error, ")
