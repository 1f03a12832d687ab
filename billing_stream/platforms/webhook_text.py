"""Reading what others wrote: JSON into structs, messages into something fit for a client."""

import re
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

MESSAGE_CHARACTERS_MAX = 200
# What a checkout may have where it is recorded (`domain.commands.Url`).
URL_CHARACTERS_MAX = 2048

# Keys and tokens of Stripe and Shopify, should a message of theirs repeat one.
_KEYS = re.compile(r"\b(?:sk|rk|pk|whsec|shp[a-z]{2})_\w+")

T = TypeVar("T")


def decode(body: bytes, form: type[T]) -> T:
    """The JSON as a struct. Raises ValueError, which shows no value, when it is not one."""
    try:
        return msgspec.json.decode(body, type=form)
    except RecursionError:
        raise ValueError("the JSON is nested too deep") from None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        # Not repeated: the text of some of these errors has parts of the body.
        raise ValueError("not the JSON that is meant to be here") from None


def clean(message: str) -> str:
    """One printable line of at most 200 characters, without what looks like a key."""
    printable = "".join(letter if letter.isprintable() else " " for letter in message)
    line = _KEYS.sub("***", " ".join(printable.split()))
    if len(line) <= MESSAGE_CHARACTERS_MAX:
        return line
    return line[: MESSAGE_CHARACTERS_MAX - 1].rstrip() + "…"


def is_page(url: str) -> bool:
    """Whether a browser can be sent there: an http or https address of at most 2048 characters."""
    if len(url) > URL_CHARACTERS_MAX or not url.isprintable():
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)
