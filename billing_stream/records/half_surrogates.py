"""Text that was cut in the middle of a character, as programs in UTF-16 cut it.

In JSON it ends in `\\\\ud83d`, half of a pair. A strict reader refuses that, wherever it stands.
"""

import re

_ESCAPE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
    rb"|\\.",
    re.DOTALL,
)
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def without_halves(value: bytes) -> bytes | None:
    """The JSON with a replacement character for each half, or None when it has none."""
    replaced = _ESCAPE.sub(_whole, value)
    return None if replaced == value else replaced


def _whole(escape: re.Match[bytes]) -> bytes:
    return b"\\ufffd" if escape["half"] else escape[0]
