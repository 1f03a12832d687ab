"""Keys of the rows, and rows as they were written before."""

import msgspec
import pytest

from billing_stream.domain.outcomes import ShopRegistered
from billing_stream.records.schemas import encode
from billing_stream.tables import codecs
from tests.support.world import M1


@pytest.mark.parametrize("key", ["k", "a/b", "/", "//", "é", " "])
def test_the_key_of_an_answer_tells_the_merchant_and_the_idempotency_key(key: str) -> None:
    assert codecs.split_answer_key(codecs.answer_key(M1, key)) == (M1, key)


def test_a_shop_is_the_same_in_any_letter_case() -> None:
    assert codecs.shop_key("Shopify", "Anna.Example") == codecs.shop_key("shopify", "anna.example")


def test_rows_and_records_written_before_there_were_adjustments_are_read() -> None:
    row = (
        b'{"merchant_id":"m","platform":"shopify","domain":"a.example","created_at":'
        b'"2026-01-01T00:00:00Z","updated_at":"2026-01-01T00:00:00Z","version":1}'
    )
    shop = b'{"platform":"shopify","domain":"a.example","merchant_id":"m"}'

    merchant = codecs.merchant.decode(row)
    registered = msgspec.json.decode(shop, type=ShopRegistered)

    assert (merchant.credits_adjusted, merchant.former_shops) == (0, ())
    assert merchant.forgotten_at is None
    assert not registered.gone
    # And who reads ours, and never heard of any of it, reads what he always read.
    assert encode(merchant) == row
    assert encode(registered) == shop
