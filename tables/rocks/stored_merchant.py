"""A merchant's row together with what its indexes come to: read and written in one piece."""

from struct import Struct as Layout

import msgspec

from billing_stream.domain.model import Merchant
from billing_stream.tables.rocks import packed

_LAYOUT = Layout(">qqQIII?")
NEVER = (1 << 63) - 1
"""No moment: later than all others."""


class StoredMerchant(msgspec.Struct, gc=False):
    """Times are microseconds since 1970, `NEVER` for none.

    `due` is when the merchant will be looked at; no pending purchase expires before
    `waits_from`, and when it is `exact` the first one expires then; `turn` is that of the next
    answer. `merchant` is None while only rows of other tables have been restored.
    """

    merchant: Merchant | None = None
    due: int = NEVER
    waits_from: int = NEVER
    turn: int = 0
    waiting: int = 0
    answers: int = 0
    purchases: int = 0
    exact: bool = True

    def pack(self) -> bytes:
        """As it is stored."""
        numbers = _LAYOUT.pack(
            self.due,
            self.waits_from,
            self.turn,
            self.waiting,
            self.answers,
            self.purchases,
            self.exact,
        )
        return numbers if self.merchant is None else numbers + packed.pack(self.merchant)


def unpack(value: bytes) -> StoredMerchant:
    """As it was stored."""
    row = value[_LAYOUT.size :]
    return StoredMerchant(packed.merchant(row) if row else None, *_LAYOUT.unpack_from(value))
