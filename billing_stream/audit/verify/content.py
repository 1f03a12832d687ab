"""What a record and its dead letter have in common: key, value and headers, as a digest.

Large records are in their dead letters by a digest of their own; older letters hold them whole.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from billing_stream.audit.verify.log_records import Record

# What the client makes the first header of a record that it could not read, with the reason.
UNREADABLE = "\0unreadable"
LARGE = 1_048_576

Headers = Sequence[tuple[str, bytes | None]]


def header(record: Record, name: str) -> str | None:
    """The first value of a header, or None."""
    for key, value in record.headers:
        if key == name and value is not None:
            return value.decode("utf-8", "replace")
    return None


def why_unreadable(record: Record) -> str | None:
    """Why the client could not read a record, or None."""
    marks = [value for name, value in record.headers if name == UNREADABLE]
    # Without a text it is the producer's.
    return (marks[0] or b"marked as unreadable").decode("utf-8", "replace") if marks else None


def raw(text: str | None) -> bytes | None:
    """The bytes of base64 text."""
    return None if text is None else base64.b64decode(text)


def headers_size(headers: Headers) -> int:
    """The size of the names and values of headers in bytes, without the mark."""
    return sum(len(n.encode()) + len(v or b"") for n, v in headers if n != UNREADABLE)


def digest(key: bytes | None, value: bytes | None, headers: Headers) -> int:
    """Equal for equal content."""
    headers = [held for held in headers if held[0] != UNREADABLE]
    if len(key or b"") + len(value or b"") + headers_size(headers) <= LARGE:
        return hash((key, value, tuple(headers)))
    sha = hashlib.sha256()
    parts = [key, value]
    for name, held in headers:
        parts += [name.encode(), held]
    for part in parts:
        sha.update((-1 if part is None else len(part)).to_bytes(8, "big", signed=True))
        sha.update(part or b"")
    return hash(sha.hexdigest())


def digest_of_letter(letter: Mapping[str, Any]) -> int:
    """The digest of the record that a dead letter is of."""
    truncated = letter.get("truncated")
    if truncated is not None:
        return hash(truncated["record_sha256"])
    headers = [(name, raw(text)) for name, text in letter["headers"]]
    return digest(raw(letter["key"]), raw(letter["value"]), headers)
