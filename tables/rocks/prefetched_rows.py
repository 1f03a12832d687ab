"""Committed rows that are about to be read, fetched at once: for one transaction, then gone."""

from collections.abc import Collection

from billing_stream.domain.model import Purchase
from billing_stream.tables.rocks import keys, packed
from billing_stream.tables.rocks.rocks_database import Database
from billing_stream.tables.rocks.stored_merchant import StoredMerchant, unpack


class PrefetchedRows:
    """Rows by merchant, by `merchant/charge` and by purchase; None: there is no such row.

    Nothing that is not committed comes here, and `clear` must follow each commit.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self.heads: dict[str, StoredMerchant | None] = {}
        self.charges: dict[str, Purchase | None] = {}
        self.purchases: dict[str, Purchase | None] = {}

    def fetch(
        self, merchants: Collection[str], charges: Collection[str], purchases: Collection[str]
    ) -> None:
        """Read what is not here yet: one call, while other threads may run."""
        wanted = [keys.MERCHANT + merchant.encode() for merchant in merchants]
        wanted += [keys.of_charge(charge) for charge in charges]
        wanted += [keys.PURCHASE + purchase.encode() for purchase in purchases]
        if not wanted:
            return
        found = iter(self._db.get_many(wanted))
        # `found` last: zip takes from the first before it sees that the second has ended.
        for merchant, value in zip(merchants, found, strict=False):
            self.heads[merchant] = None if value is None else unpack(value)
        for charge, value in zip(charges, found, strict=False):
            self._keep(charge, value)
        elsewhere = []
        for purchase, value in zip(purchases, found, strict=False):
            if value is None:
                self.purchases[purchase] = None
            elif value.startswith(keys.ELSEWHERE):
                elsewhere.append(value[1:].decode())
            else:
                self.purchases[purchase] = packed.purchase(value)
        if elsewhere:
            values = self._db.get_many([keys.of_charge(place) for place in elsewhere])
            for place, value in zip(elsewhere, values, strict=True):
                self._keep(place, value)

    def clear(self) -> None:
        """Forget all of it: what is read next may have changed."""
        self.heads.clear()
        self.charges.clear()
        self.purchases.clear()

    def _keep(self, charge: str, value: bytes | None) -> None:
        if value is None:
            self.charges[charge] = None
        else:
            found = self.charges[charge] = packed.purchase(value)
            self.purchases[found.id] = found
