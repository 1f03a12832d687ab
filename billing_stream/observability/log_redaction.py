"""Takes out of a log line what no log may contain: secrets, tokens, addresses of people."""

import re
from collections.abc import Sequence
from typing import Any

from structlog.typing import EventDict

from billing_stream.plain_text import MASK, clean_line, clean_text, mask_passwords

SECRET = MASK
# Shorter ones would be found in ordinary words.
SECRET_LENGTH_MIN = 6

_PATTERNS = (
    (re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]+", re.IGNORECASE), rf"\1 {SECRET}"),
    (re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]*"), SECRET),
    # Keys and tokens of Shopify and Stripe.
    (re.compile(r"\b(?:shp(?:at|ca|pa|ss)|[sr]k_(?:live|test)|whsec)_\w+"), SECRET),
)
_PERSONAL = (
    (re.compile(r"[\w.%+-]+@[\w-]+(?:\.[\w-]+)+"), "(e-mail)"),
    (re.compile(r"\b[\w-]+\.myshopify\.com\b", re.IGNORECASE), "(shop)"),
)


class Scrubber:
    """A structlog processor, the last before the line is written. `secrets` are taken out as such.

    A second line of defence: what we log ourselves has none of it. An error of a library may.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        found = sorted({s for s in secrets if len(s) >= SECRET_LENGTH_MIN}, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, found))) if found else None

    def __call__(self, _: Any, __: str, event: EventDict) -> EventDict:
        """The line without; and nothing in it can look like another line, or hide one."""
        for name, value in event.items():
            if not isinstance(value, str) or name in ("timestamp", "level", "logger"):
                continue
            if name == "operator":
                # Of who acted the log is the evidence.
                event[name] = clean_line(value)
            elif name == "exception":
                event[name] = _indented(clean_text(self.clean(value)))
            else:
                event[name] = clean_line(self.clean(value))
        return event

    def clean(self, text: str) -> str:
        """Text without secrets, passwords and addresses of people."""
        text = self.mask(text)
        for pattern, instead in _PERSONAL:
            text = pattern.sub(instead, text)
        return text

    def mask(self, text: str) -> str:
        """Text without secrets and passwords."""
        if self._secrets is not None:
            text = self._secrets.sub(SECRET, text)
        text = mask_passwords(text)
        for pattern, instead in _PATTERNS:
            text = pattern.sub(instead, text)
        return text


def _indented(traceback: str) -> str:
    """A traceback without a line that could be taken for a line of the log."""
    return "\n".join([f"  {line}" for line in traceback.split("\n")])
