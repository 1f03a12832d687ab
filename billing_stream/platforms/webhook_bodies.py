"""The body of a webhook with a valid signature: an object or not, and its invalid fields."""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from billing_stream.domain.commands import UUID_TEXT
from billing_stream.errors import WebhookForged
from billing_stream.records.invalid_fields import readable

T = TypeVar("T")

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_UUID = re.compile(UUID_TEXT)


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object that a webhook is.

    Raises WebhookForged for anything else: the secret of a platform signs other texts too, as
    launch addresses and session tokens, which others have and may post here.
    """
    try:
        found = msgspec.json.decode(body.removeprefix(BYTE_ORDER_MARK))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise WebhookForged("the body is not a JSON object")
    return found


def read_fields(body: bytes, form: type[T]) -> T:
    """The body as a struct. Raises ValueError, which names the field and shows no value."""
    try:
        return msgspec.json.decode(body.removeprefix(BYTE_ORDER_MARK), type=form)
    except RecursionError:
        raise ValueError("the JSON is nested too deep") from None
    except msgspec.DecodeError as error:
        raise ValueError(readable(str(error))) from None


def text_at(found: Mapping[str, Any], *path: str) -> str | None:
    """The text at a path of object keys, or None where there is no text."""
    value: Any = found
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, str) else None


def own_id(text: str | None) -> str | None:
    """The id if it has the form of billing's: an account may serve other systems, too."""
    return text if text is not None and _UUID.match(text) else None
