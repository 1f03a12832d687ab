"""Amounts in minor units: exact, both ways."""

from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from billing_stream.errors import PlatformError
from billing_stream.platforms.money import from_minor, to_minor

DECIMALS = {"USD": 2, "eur": 2, "JPY": 0, "krw": 0, "CLP": 0, "KWD": 3, "bhd": 3}


@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [
        ("9.99", "USD", 999),
        ("39.99", "usd", 3999),
        ("0.29", "EUR", 29),
        ("69.9", "USD", 6990),
        ("70", "USD", 7000),
        ("1.10", "USD", 110),
        ("500", "JPY", 500),
        ("500.00", "JPY", 500),
        ("5.12", "KWD", 5120),
        ("5", "UGX", 500),
        ("5", "ISK", 500),
        ("999999999999.99", "USD", 99999999999999),
    ],
)
def test_an_amount_is_so_many_minor_units(amount: str, currency: str, minor: int) -> None:
    assert to_minor(amount, currency) == minor


@pytest.mark.parametrize(
    ("amount", "currency"),
    [
        ("9.999", "USD"),
        ("9.5", "JPY"),
        ("5.124", "KWD"),
        ("5.5", "UGX"),
        ("0.000001", "USD"),
    ],
)
def test_an_amount_is_never_rounded(amount: str, currency: str) -> None:
    with pytest.raises(PlatformError, match="more decimals"):
        to_minor(amount, currency)


@pytest.mark.parametrize(
    "amount", ["0", "0.00", "-1", "", "x", "NaN", "Infinity", "1e3", "1e999999999", "٣", "1\n"]
)
def test_what_is_no_amount_is_not_charged(amount: str) -> None:
    with pytest.raises(PlatformError, match="not one that can be charged"):
        to_minor(amount, "USD")


@given(minor=st.integers(1, 10**12 - 1), currency=st.sampled_from(sorted(DECIMALS)))
@example(minor=1, currency="USD")
@example(minor=10, currency="KWD")
def test_both_ways_agree_with_decimal(minor: int, currency: str) -> None:
    if DECIMALS[currency] == 3:
        minor += -minor % 10
    text = from_minor(minor, currency)

    assert Decimal(text) == Decimal(minor) / 10 ** DECIMALS[currency]
    assert "E" not in text
    assert to_minor(text, currency) == minor


@given(amount=st.decimals(0, 10**9, places=2))
def test_cents_are_a_hundred_times_the_amount(amount: Decimal) -> None:
    if amount:
        assert to_minor(f"{amount:f}", "USD") == amount * 100


def test_nothing_refunded_is_nothing() -> None:
    assert from_minor(0, "usd") == "0.00"
    assert from_minor(0, "jpy") == "0"
