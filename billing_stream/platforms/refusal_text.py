"""What a platform says of its refusal, in whatever form it says it."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from billing_stream.platforms.webhook_text import decode

_DEPTH_MAX = 4
_TEXTS_MAX = 5


def refusal_text(body: bytes) -> str:
    """The text of `errors`, `error` or `error_description` in a JSON body; empty without one."""
    try:
        found = decode(body, dict[str, Any])
    except ValueError:
        return ""
    for name in ("errors", "error_description", "error"):
        text = text_of(found.get(name))
        if text:
            return text
    return ""


def text_of(errors: Any) -> str:
    """Errors as one text: they are a text, an object, or a list of either.

    >>> text_of([{"message": "a"}, "b", {"name": ["is blank", "is odd"]}])
    'a; b; name: is blank; name: is odd'
    """
    return "; ".join(islice(_texts(errors, _DEPTH_MAX), _TEXTS_MAX))


def _texts(errors: Any, depth: int) -> Iterator[str]:
    if not depth:
        return
    if isinstance(errors, str):
        if errors.strip():
            yield errors
    elif isinstance(errors, list):
        for one in errors:
            yield from _texts(one, depth - 1)
    elif isinstance(errors, dict):
        message = errors.get("message")
        if isinstance(message, str):
            yield from _texts(message, depth)
            return
        for name, one in errors.items():
            for text in _texts(one, depth - 1):
                yield f"{name}: {text}"
