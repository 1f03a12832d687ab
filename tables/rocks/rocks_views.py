"""Rows as mappings, for whoever looks at a table: read key by key, counted by reading."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from billing_stream.domain.model import Adjustment, Merchant, Purchase
from billing_stream.domain.outcomes import StoredResponse
from billing_stream.tables.rocks import keys
from billing_stream.tables.rocks.rocks_database import Database

if TYPE_CHECKING:
    from billing_stream.tables.rocks.rocks_rows import RocksRows

Row = TypeVar("Row")


class _View(Mapping[str, Row]):
    """The rows of one kind. `get` is what the rules call, and so overridden."""

    def __init__(self, db: Database, kind: bytes) -> None:
        self._db = db
        self._kind = kind

    def __getitem__(self, key: str) -> Row:
        found = self.get(key)
        if found is None:
            raise KeyError(key)
        return found

    def __iter__(self) -> Iterator[str]:
        return (key[1:].decode() for key in self._db.keys(self._kind))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Merchants(_View[Merchant]):
    """Merchants by id."""

    def __init__(self, rows: "RocksRows") -> None:
        super().__init__(rows.db, keys.MERCHANT)
        self.get = rows.merchant  # type: ignore[assignment, method-assign]

    def __iter__(self) -> Iterator[str]:
        return (key[1:].decode() for key in self._db.keys(keys.MERCHANT) if b"/" not in key)


class Purchases(_View[Purchase]):
    """Purchases by id."""

    def __init__(self, rows: "RocksRows") -> None:
        super().__init__(rows.db, keys.PURCHASE)
        self.get = rows.purchase  # type: ignore[assignment, method-assign]


class Adjustments(_View[Adjustment]):
    """Adjustments by id."""

    def __init__(self, rows: "RocksRows") -> None:
        super().__init__(rows.db, keys.ADJUSTMENT)
        self.get = rows.adjustment  # type: ignore[assignment, method-assign]


class AnswersByMerchant(_View[dict[str, StoredResponse]]):
    """The stored answers of each merchant that has some, by key, oldest first."""

    def __init__(self, rows: "RocksRows") -> None:
        super().__init__(rows.db, keys.MERCHANT)
        self._rows = rows

    def get(self, merchant_id: str, default: Any = None) -> Any:
        """The merchant's answers, or the default when there are none."""
        return {answer.key: answer for answer in self._rows.answers(merchant_id)} or default

    def __iter__(self) -> Iterator[str]:
        last = None
        for name in self._db.keys(keys.MERCHANT):
            owner, _, kind = name[1:].partition(b"/")
            if kind.startswith(keys.ANSWER) and owner != last:
                yield owner.decode()
                last = owner


class Texts(_View[str]):
    """Texts by text; what is set can be read after the next commit."""

    def get(self, key: str, default: Any = None) -> Any:
        """The text, or the default."""
        value = self._db.get(self._kind + key.encode())
        return default if value is None else value.decode()

    def __setitem__(self, key: str, text: str) -> None:
        self._db.put(self._kind + key.encode(), text.encode())

    def __delitem__(self, key: str) -> None:
        self._db.delete(self._kind + key.encode())

    def update(self, texts: Mapping[str, str]) -> None:
        """Set all of them."""
        for key, text in texts.items():
            self[key] = text
