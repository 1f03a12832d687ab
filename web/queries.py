"""What the owner of a key is asked, and how its committed rows answer.

A query is answered from memory where it is asked, or sent to the worker that owns the
key: both ways run the same `read`.
"""

from typing import Protocol, TypeVar

import msgspec
from msgspec import Struct

from billing_stream.domain.model import Merchant, Purchase
from billing_stream.tables.committed import CommittedRows

Found_co = TypeVar("Found_co", covariant=True)


class Query(Protocol[Found_co]):
    """A question that one partition can answer."""

    @property
    def key(self) -> str:
        """The key whose partition knows."""

    def read(self, rows: CommittedRows) -> Found_co:
        """The answer, from committed rows."""

    def parse(self, body: bytes) -> Found_co:
        """The answer, as another worker sent it."""


class ShopFound(Struct, frozen=True):
    """Whose shop it is; None when it is nobody's that we know."""

    merchant_id: str | None


class MerchantFound(Struct, frozen=True):
    """A merchant and some of its purchases, newest first; `total` counts all of them.

    `merchant` is None without a billing record, and then there is nothing else.
    """

    merchant: Merchant | None
    purchases: tuple[Purchase, ...] = ()
    total: int = 0


class PurchaseFound(Struct, frozen=True):
    """One purchase of a merchant, or None; `merchant` as in `MerchantFound`."""

    merchant: Merchant | None
    purchase: Purchase | None = None


class FindShop(Struct, frozen=True, tag="find_shop", tag_field="query"):
    """Whose is the shop `platform:domain`?"""

    shop: str

    @property
    def key(self) -> str:
        """A shop lies on the partition of its own key, not of its merchant's."""
        return self.shop

    def read(self, rows: CommittedRows) -> ShopFound:
        """From committed rows."""
        return ShopFound(rows.shops.get(self.shop))

    def parse(self, body: bytes) -> ShopFound:
        """From another worker."""
        return _shop_found.decode(body)


class ReadMerchant(Struct, frozen=True, tag="read_merchant", tag_field="query"):
    """A merchant, and `take` of its purchases after the newest `skip`."""

    merchant_id: str
    skip: int = 0
    take: int = 0

    @property
    def key(self) -> str:
        """A merchant's rows lie together."""
        return self.merchant_id

    def read(self, rows: CommittedRows) -> MerchantFound:
        """From committed rows."""
        merchant = _with_billing(rows, self.merchant_id)
        if merchant is None or not self.take:
            return MerchantFound(merchant)
        purchases, total = rows.purchases_page(self.merchant_id, self.skip, self.take)
        return MerchantFound(merchant, tuple(purchases), total)

    def parse(self, body: bytes) -> MerchantFound:
        """From another worker."""
        return _merchant_found.decode(body)


class ReadPurchase(Struct, frozen=True, tag="read_purchase", tag_field="query"):
    """One purchase of this merchant; another merchant's is not found."""

    merchant_id: str
    purchase_id: str

    @property
    def key(self) -> str:
        """Purchases lie with their merchant."""
        return self.merchant_id

    def read(self, rows: CommittedRows) -> PurchaseFound:
        """From committed rows."""
        purchase = rows.purchase(self.purchase_id)
        if purchase is not None and purchase.merchant_id != self.merchant_id:
            purchase = None
        return PurchaseFound(_with_billing(rows, self.merchant_id), purchase)

    def parse(self, body: bytes) -> PurchaseFound:
        """From another worker."""
        return _purchase_found.decode(body)


def _with_billing(rows: CommittedRows, merchant_id: str) -> Merchant | None:
    """The merchant; None when only a webhook that came first has named it so far."""
    merchant = rows.merchant(merchant_id)
    if merchant is None or merchant.created_at is None:
        return None
    # Parked webhooks are for the rules, and may be many.
    return msgspec.structs.replace(merchant, parked=()) if merchant.parked else merchant


AnyQuery = FindShop | ReadMerchant | ReadPurchase

_shop_found = msgspec.json.Decoder(ShopFound)
_merchant_found = msgspec.json.Decoder(MerchantFound)
_purchase_found = msgspec.json.Decoder(PurchaseFound)
_query: msgspec.json.Decoder[AnyQuery] = msgspec.json.Decoder(AnyQuery)


def parse_query(text: str) -> AnyQuery:
    """A query as another worker sent it. Raises msgspec.DecodeError."""
    return _query.decode(text)
