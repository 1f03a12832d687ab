"""Takes out of a log line what is for nobody's log: secrets, tokens, addresses of people."""

import re
from collections.abc import Sequence
from typing import Any

from structlog.typing import EventDict

SECRET = "********"
# Shorter ones would be found in ordinary words.
SECRET_LENGTH_MIN = 6

_PATTERNS = (
    # The user and password of an address.
    (re.compile(r"(?<=://)[^\s/@]+:[^\s/@]+(?=@)"), SECRET),
    (re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]+", re.IGNORECASE), rf"\1 {SECRET}"),
    (re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]*"), SECRET),
    # Keys and tokens of Shopify and Stripe.
    (re.compile(r"\b(?:shp(?:at|ca|pa|ss)|[sr]k_(?:live|test)|whsec)_\w+"), SECRET),
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
        """The line without."""
        for name, value in event.items():
            # Of who acted the log is the evidence.
            if isinstance(value, str) and name not in ("timestamp", "level", "logger", "operator"):
                event[name] = self._clean(value)
        return event

    def _clean(self, text: str) -> str:
        if self._secrets is not None:
            text = self._secrets.sub(SECRET, text)
        for pattern, instead in _PATTERNS:
            text = pattern.sub(instead, text)
        return text
