"""Records that a client could not read as they are, and how they are passed on all the same.

Kafka checks neither the names of headers nor how large a batch is once it is unpacked. The
client passes such a record on with a mark as its first header, so that each reader decides what to
do: a lane makes a dead letter of it, a restore leaves its partition out. A producer that writes the
mark itself gets a dead letter.
"""

from collections.abc import Sequence

Headers = Sequence[tuple[str, bytes | None]]

UNREADABLE = "\0unreadable"
_FORGED = b"a header has the name '\\0unreadable', which no producer may use"


def unreadable(reason: str, headers: Headers = ()) -> Headers:
    """The headers of a record that cannot be read; `reason` says why."""
    return ((UNREADABLE, reason.encode()), *headers)


def why_unreadable(headers: Headers) -> str | None:
    """Why a record with these headers cannot be read, or None when it can."""
    for name, value in headers:
        if name == UNREADABLE:
            return (value or _FORGED).decode("utf-8", "replace")
    return None


def without_mark(headers: Headers) -> list[tuple[str, bytes | None]]:
    """The headers without the mark."""
    return [header for header in headers if header[0] != UNREADABLE]


def headers_bytes(headers: Headers) -> int:
    """The size of all names and values of headers, in bytes."""
    return sum(len(name.encode()) + len(value or b"") for name, value in headers)
