"""The keys of a partition's database: one letter says what, ids are text, times sort as bytes.

All of a merchant stands together, under its own key and what begins with it and a slash: a
webhook finds the row of the merchant and that of the purchase in one block as a rule.
"""

from datetime import UTC, datetime, timedelta
from struct import Struct

MERCHANT = b"m"
PURCHASE = b"p"
"""purchase -> row, or, once it has a charge, where the row is: `ELSEWHERE`, merchant/charge."""
ELSEWHERE = b">"
ADJUSTMENT = b"j"
SHOP = b"s"
REDRIVEN = b"r"
DUE = b"d"
"""due, merchant: when something falls due."""

CHARGE = b"c"
"""Of a merchant: charge -> row of the purchase. Webhooks name the charge, and read one key."""
BY_AGE = b"n"
"""Of a merchant: created, purchase; its purchases, oldest first."""
WAITING = b"w"
"""Of a merchant: expires, purchase; its pending purchases, soonest first."""
ANSWER = b"a"
"""Of a merchant: key -> turn and row."""
IN_TURN = b"t"
"""Of a merchant: turn -> key; its answers, oldest first."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_UNSIGNED = Struct(">Q")
_SIGN = 1 << 63
TIME_BYTES = 8


def micros(moment: datetime) -> int:
    """Microseconds since 1970, exactly."""
    return (moment - _EPOCH) // _MICROSECOND


def moment(micros: int) -> datetime:
    """The moment of these microseconds."""
    return _EPOCH + timedelta(microseconds=micros)


def ordered(number: int) -> bytes:
    """A signed number as bytes that sort as numbers do."""
    return _UNSIGNED.pack(number + _SIGN)


def number_of(key: bytes, start: int) -> int:
    """The number that `ordered` wrote at this place of a key."""
    found: int = _UNSIGNED.unpack_from(key, start)[0]
    return found - _SIGN


def of_merchant(kind: bytes, merchant_id: str) -> bytes:
    """What all keys of this kind and merchant begin with: no id has a slash."""
    return MERCHANT + merchant_id.encode() + b"/" + kind


def of_charge(charge_key: str) -> bytes:
    """The key of the purchase at `merchant/charge`."""
    merchant_id, _, charge = charge_key.partition("/")
    return of_merchant(CHARGE, merchant_id) + charge.encode()


def after(prefix: bytes) -> bytes:
    """A key after all that begin so; the last byte of a prefix is none of the highest."""
    return prefix[:-1] + bytes((prefix[-1] + 1,))
