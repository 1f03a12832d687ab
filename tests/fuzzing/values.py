"""What stands in records: valid, invalid, or changed at random so that it may be either."""

import functools
import json
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from billing_stream.records import topics as names
from billing_stream.records.examples import MERCHANT_ID, PURCHASE_ID, Example, examples
from tests.support.raw_batches import LATIN_1, Headers, Name

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
NESTED = 20_000
# More than any record may have, unpacked; as bytes of the wire it is small.
LARGE = 3_200_000
# Most are about new merchants: of these it is known whether they were processed.
OF_PRODUCERS = (names.MERCHANT_CREATED,) * 6 + (
    names.PURCHASE_UPDATED,
    names.PURCHASE_REFUNDED,
    names.COMMANDS,
    names.COMMANDS,
)
# Lanes and operators write there, and only they set these headers: others need our rights.
OF_OURS = (names.MERCHANT_CREATED, names.COMMANDS, names.SHOPS, names.OPERATOR_COMMANDS)
OUR_HEADERS = ("billing-forwarded-topic", "billing-forwarded-from", "billing-redriven-from")
NUMBERS: list[Any] = [0, -1, 1 << 63, 10**400, 1e308, float("inf"), float("nan"), 0.1, -0.0]
TEXTS = [
    "",
    " ",
    "\0",
    "a\0b",
    "\ud800",
    "\u202e",
    "\x1b[2J",
    "x" * 300,
    "x" * 70_000,
    "💳",
    "null",
]
STRUCTURES: list[Any] = [None, True, [], {}, [[]], {"": {}}, {"data": {"data": {}}}]
# Of an installation, each is as good as none.
UNKNOWN: list[Any] = [
    None,
    " ",
    "a\0b",
    "x" * 300,
    "💳",
    "2026-01-01",
    True,
    0.1,
    10**400,
    [],
    {"": {}},
]
# Few, so that what is sent meets what was sent before.
MERCHANTS = 20
ODD = [*NUMBERS, *TEXTS, *STRUCTURES]


class Fate(StrEnum):
    """What has to become of a record."""

    PROCESSED = "processed"
    DEAD_LETTER = "dead letter"
    EITHER = "either"


@dataclass(frozen=True, slots=True)
class Content:
    """A record without its wire format. `merchant` is new, and created by nothing else."""

    value: bytes | None
    headers: Headers
    key: bytes | None
    fate: Fate
    merchant: str = ""


def content(rng: random.Random, topic: str, *, forged: bool = False) -> Content:
    """The next record of this topic. `forged`: commands say of themselves that we copied them."""
    if topic != names.MERCHANT_CREATED:
        return _other(rng, topic, forged)
    merchant = str(uuid.UUID(int=rng.getrandbits(128), version=4))
    payload = {
        "merchant_id": rng.choice([merchant, merchant.upper()]),
        "platform_name": rng.choice(["shopify", "x", " Shopify "]),
        "domain": f"{merchant}.example",
        # An odd one is unknown, and no reason for a dead letter.
        "platform_shop_id": rng.choice([7, "7", *UNKNOWN]),
        "installed_at": rng.choice(["2026-01-01T00:00:00Z", *UNKNOWN]),
    }
    fate = rng.choices(list(Fate), [5, 3, 2])[0]
    headers, key = _headers(rng, *OUR_HEADERS), _key(rng, merchant)
    if fate is Fate.PROCESSED:
        return Content(_valid(rng, payload), headers, key, fate, merchant)
    if fate is Fate.EITHER:
        return Content(_changed(rng, _valid(rng, payload)), headers, key, fate, merchant)
    if rng.random() < 0.4:
        return Content(_valid(rng, payload), _bad_headers(rng, headers), key, fate, merchant)
    return Content(rng.choice(_INVALID)(rng, payload), headers, key, fate, merchant)


@functools.cache
def _examples() -> dict[str, list[Example]]:
    return examples()


def _other(rng: random.Random, topic: str, forged: bool) -> Content:
    text = json.dumps(rng.choice(_examples()[topic]).value)
    number = rng.randrange(MERCHANTS)
    # Each has its own: an id of a purchase is no other merchant's.
    for id_ in (MERCHANT_ID, PURCHASE_ID):
        text = text.replace(id_, id_[:-2] + f"{number:02x}")
    value = json.loads(text)
    if topic in OF_PRODUCERS and rng.random() < 0.3:
        raw = rng.choice(_NO_RECORD)(rng, value.get("data", value))
        return Content(raw, _headers(rng), _key(rng, topic), Fate.DEAD_LETTER)
    _odd_field(rng, value)
    raw = json.dumps(value).encode()
    if rng.random() < 0.5:
        raw = _changed(rng, raw)
    headers = _headers(rng)
    if forged:
        texts = [b"", None, b"\xff", topic.encode(), b"a[0]@1", b"x" * 400, b"dlq.billing.v1[0]@-1"]
        headers = [*headers, (rng.choice(OUR_HEADERS), rng.choice(texts))]
    return Content(raw, headers, _key(rng, topic), Fate.EITHER)


def _key(rng: random.Random, text: str) -> bytes | None:
    return rng.choice([text.encode(), text.encode(), None, b"", rng.randbytes(16), b"k" * 4_000])


def _headers(rng: random.Random, *more: str) -> Headers:
    def one() -> tuple[Name, bytes | None]:
        known = ["traceparent", "correlation-id", "content-type", *more]
        name = rng.choice([*known, "", "x", "é", "💳", "n" * 300])
        return name, rng.choice([None, b"", b"00-bad", rng.randbytes(20)])

    return [one() for _ in range(rng.choice([0, 0, 0, 1, 2, 40]))]


def _bad_headers(rng: random.Random, headers: Headers) -> Headers:
    bad: list[tuple[Name, bytes | None]] = [
        (LATIN_1, b"v"),
        (b"\xff\xfe", None),
        (b"\xed\xa0\x80", b""),
        (b"\xc0\x80", b""),
        (b"\xf4\x90\x80\x80", b"v"),
        ("\0unreadable", rng.choice([None, b"by myself", b"\xff"])),
        ("large", bytes(40_000)),
        ("n" * 40_000, None),
    ]
    return [*headers, rng.choice(bad)]


def _valid(rng: random.Random, payload: dict[str, Any]) -> bytes:
    shape: dict[str, Any] = dict(payload)
    if rng.random() < 0.3:
        shape[rng.choice(["more", "data", "correlation_id", "amount"])] = rng.choice(STRUCTURES)
    if rng.random() < 0.4:
        shape = {"event_id": rng.choice([1, "e"]), "correlation_id": rng.choice(ODD), "data": shape}
    text = json.dumps(shape, ensure_ascii=rng.random() < 0.5, indent=rng.choice([None, 2]))
    try:
        raw = (text + rng.choice(["", "\n", " \t\r\n"])).encode()
        said = json.loads(raw.removeprefix(BYTE_ORDER_MARK), parse_constant=_refused)
        json.dumps(said, ensure_ascii=False).encode()
    except ValueError:
        # NaN, or half of a surrogate: a text that no JSON may have.
        return _valid(rng, payload)
    return rng.choice([b"", BYTE_ORDER_MARK]) + raw


def _refused(name: str) -> Any:
    raise ValueError(name)


def _changed(rng: random.Random, raw: bytes) -> bytes:
    """A few bytes changed, added, taken away, doubled."""
    found = bytearray(raw)
    for _ in range(rng.choice([1, 1, 2, 5])):
        at = rng.randrange(len(found) + 1)
        match rng.randrange(5):
            case 0:
                found[at : at + 1] = rng.randbytes(1)
            case 1:
                found[at:at] = rng.choice([b'"', b"\\", b"{", b"}", b"\\u0000", b"\xff", b"9" * 50])
            case 2:
                del found[at : at + rng.choice([1, 8])]
            case 3:
                found[at:at] = found[at : at + rng.choice([1, 40])]
            case 4:
                del found[at:]
    return bytes(found)


def _odd_field(rng: random.Random, value: dict[str, Any]) -> None:
    inner = value.get("data", value)
    inner = inner if isinstance(inner, dict) and inner else value
    name = rng.choice([*inner, "new"])
    if rng.random() < 0.5:
        inner[name] = rng.choice(ODD)
    elif rng.random() < 0.3:
        inner.pop(name, None)


def _without_a_field(rng: random.Random, payload: dict[str, Any]) -> bytes:
    # Without one of the others a merchant has no shop.
    shape = {name: value for name, value in payload.items() if name != "merchant_id"}
    return json.dumps(shape).encode()


def _odd_id(rng: random.Random, payload: dict[str, Any]) -> bytes:
    odd = rng.choice([*ODD, payload["merchant_id"][:-1], f"{payload['merchant_id']}\n"])
    return json.dumps({**payload, "merchant_id": odd}).encode()


def _not_an_object(rng: random.Random, payload: dict[str, Any]) -> bytes:
    return json.dumps(rng.choice([[payload], "text", 7, None, True, [], [[payload]]])).encode()


def _nested(rng: random.Random, payload: dict[str, Any]) -> bytes:
    opening = rng.choice([b"[", b'{"data":'])
    return opening * NESTED + json.dumps(payload).encode()


# Whatever the topic.
_NO_RECORD: list[Callable[[random.Random, dict[str, Any]], bytes | None]] = [
    lambda rng, payload: None,
    lambda rng, payload: rng.choice([b"", b" ", BYTE_ORDER_MARK, b"\0", b"{", b"}"]),
    lambda rng, payload: b"\0" + rng.randbytes(40),
    lambda rng, payload: b"\xff" + rng.randbytes(rng.randrange(200)),
    lambda rng, payload: b"\0\0\0\0\7" + json.dumps(payload).encode(),
    lambda rng, payload: json.dumps(payload).encode(rng.choice(["utf-16", "utf-16-le", "utf-32"])),
    lambda rng, payload: json.dumps(payload).encode()[:-1],
    lambda rng, payload: json.dumps(payload).encode() + rng.choice([b"}", b"{}", b"\0"]),
    lambda rng, payload: json.dumps({**payload, "more": "x" * LARGE}).encode(),
    _odd_id,
    _not_an_object,
    _nested,
]
_INVALID = [
    *_NO_RECORD,
    lambda rng, payload: json.dumps({**payload, "domain": rng.choice([7, "a\0b"])}).encode(),
    lambda rng, payload: json.dumps(payload).encode().replace(b"example", b"exampl\xff"),
    _without_a_field,
]
