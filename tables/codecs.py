"""How rows are written to the changelogs: JSON, keyed by what names the row."""

import msgspec

from billing_stream.domain.charges import Charge
from billing_stream.domain.ids import shop_key as shop_key
from billing_stream.domain.model import Adjustment, Merchant, Purchase
from billing_stream.domain.outcomes import StoredResponse
from billing_stream.domain.shops import Shop

merchant = msgspec.json.Decoder(Merchant)
purchase = msgspec.json.Decoder(Purchase)
adjustment = msgspec.json.Decoder(Adjustment)
charge = msgspec.json.Decoder(Charge)
answer = msgspec.json.Decoder(StoredResponse)
_shop = msgspec.json.Decoder(Shop)


def shop(value: bytes) -> Shop:
    """A row of `shops`. Releases up to 0.5.1 wrote the merchant id alone, as bare text."""
    return _shop.decode(value) if value.startswith(b"{") else Shop(value.decode())


def answer_key(merchant_id: str, key: str) -> str:
    """The changelog key of a stored answer: a merchant id has no slash, a key may."""
    return f"{merchant_id}/{key}"


def split_answer_key(text: str) -> tuple[str, str]:
    """The merchant id and the idempotency key."""
    merchant_id, _, key = text.partition("/")
    return merchant_id, key
