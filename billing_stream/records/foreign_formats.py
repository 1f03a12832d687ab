"""What a value looks like that is not JSON in UTF-8, and what to send instead."""

import re

_JSON_BEGINS = ("{", "[", '"')
# With a byte order mark; then without, by where the NULs of the first character are.
_MARKS = (
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_BARE = ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be")
_CONFLUENT_BYTES = 5
_GLUE_BYTES = 18
_NO_REGISTRY = "send JSON without a schema registry, as a serializer of text or plain JSON does"


def foreign_format(value: bytes) -> str | None:
    """Why a value that is not JSON is not, where its beginning shows it, or None."""
    encoding = _encoding(value)
    if encoding is not None:
        return f"looks like JSON in {encoding}: send it in UTF-8"
    if len(value) >= _CONFLUENT_BYTES and value[0] == 0:
        schema = int.from_bytes(value[1:_CONFLUENT_BYTES], "big")
        return (
            "looks like the wire format of a schema registry (Avro, Protobuf or JSON Schema, "
            f"schema id {schema}): {_NO_REGISTRY}"
        )
    if len(value) >= _GLUE_BYTES and value[0] == 3 and value[1] in (0, 5):
        return f"looks like the wire format of AWS Glue Schema Registry: {_NO_REGISTRY}"
    return None


def not_utf_8(error: UnicodeDecodeError) -> str:
    """Why a text of JSON cannot be read, with the text around it."""
    around = error.object[max(error.start - 20, 0) : error.end + 20]
    return f"a text is not UTF-8: '{around.decode('utf-8', 'backslashreplace')}'"


def _encoding(value: bytes) -> str | None:
    for mark, encoding in _MARKS:
        if value.startswith(mark):
            return encoding.upper()
    for encoding in _BARE:
        # Of a schema registry, bytes 1 to 4 are an id: two characters tell more than one.
        if value.startswith(_beginnings(encoding)) and _is_ascii(value[:8], encoding):
            return encoding[:6].upper()
    return None


def _beginnings(encoding: str) -> tuple[bytes, ...]:
    return tuple(first.encode(encoding) for first in _JSON_BEGINS)


def _is_ascii(beginning: bytes, encoding: str) -> bool:
    try:
        return all(0 < ord(char) < 128 for char in beginning.decode(encoding))
    except UnicodeDecodeError:
        return False


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
