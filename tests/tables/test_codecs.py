"""Keys of the rows."""

import pytest

from tables import codecs
from tests.support.world import M1


@pytest.mark.parametrize("key", ["k", "a/b", "/", "//", "é", " "])
def test_the_key_of_an_answer_tells_the_merchant_and_the_idempotency_key(key: str) -> None:
    assert codecs.split_answer_key(codecs.answer_key(M1, key)) == (M1, key)


def test_a_shop_is_the_same_in_any_letter_case() -> None:
    assert codecs.shop_key("Shopify", "Anna.Example") == codecs.shop_key("shopify", "anna.example")
