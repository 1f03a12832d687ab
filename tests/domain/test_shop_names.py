"""The names of shops: one form of each, and words for what is not a name."""

# ruff: noqa: RUF001

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing_stream.audit.verify.shop_names import shop_of
from billing_stream.domain.shop_names import platform_name, shop_domain, shop_names, sought_shop

LONG = ".".join(["a" * 49] * 5)


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("a.myshopify.com", "a.myshopify.com"),
        ("https://a.myshopify.com/", "a.myshopify.com"),
        ("HTTP://A.MyShopify.com:8443/admin?x=1#top", "a.myshopify.com"),
        ("//a.example", "a.example"),
        ("a.example?x=1", "a.example"),
        ("\t a.example \n", "a.example"),
        ("a.example\u00a0", "a.example"),
        ("a.example.", "a.example"),
        ("a.example:443", "a.example"),
        ("localhost:3000", "localhost"),
        ("a_b.example", "a_b.example"),
        ("r3---sn-ab.example", "r3---sn-ab.example"),
        ("3com.1a", "3com.1a"),
        ("müller.example", "xn--mller-kva.example"),
        ("MÜLLER.Example", "xn--mller-kva.example"),
        ("mu\u0308ller.example", "xn--mller-kva.example"),
        ("XN--MLLER-KVA.example", "xn--mller-kva.example"),
        ("faß.example", "xn--fa-hia.example"),
        ("ａ．example。", "a.example"),
        ("\ufeffa\u200b.exa\u00admple", "a.example"),
        (f"{LONG}.abc", f"{LONG}.abc"),
        (f"{'a' * 63}.example", f"{'a' * 63}.example"),
    ],
)
def test_domain_in_any_form_has_one_name(text: str, domain: str) -> None:
    assert shop_domain(text) == domain
    assert shop_of("shopify", text) == ("shopify", domain)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "empty"),
        (" ", "empty"),
        ("https://", "empty"),
        (".", "between its dots is empty"),
        ("a..example", "between its dots is empty"),
        ("a.example..", "between its dots is empty"),
        ("owner@mail.example", "@"),
        ("https://a.example@evil.example/", "@"),
        ("127.0.0.1", "number"),
        ("0x7f.1", "number"),
        ("１２７.0.0.1", "number"),
        ("12345", "number"),
        ("[::1]:443", "address of IP"),
        ("::1", "port"),
        ("a.example:0", "port"),
        ("a.example:65536", "port"),
        ("a.example:４４３", "port"),
        ("a.example:", "port"),
        ("ftp://a.example", "port"),
        ("https:/a.example", "port"),
        ("https://https://a.example", "port"),
        ("a b.example", "letters, digits"),
        ("a\tb.example", "letters, digits"),
        ("a\\b.example", "letters, digits"),
        ("*.example", "letters, digits"),
        ("-a.example", "hyphen"),
        ("a／b.example", "letters, digits"),
        ("\u202ea.example", "characters"),
        ("a\u200d.example", "IDNA"),
        ("\ud800.example", "characters"),
        ("xn--zzzz.example", "IDNA"),
        ("xn--.example", "IDNA"),
        ("💩.example", "IDNA"),
        (f"{'a' * 64}.example", "at most 63"),
        (f"{LONG}.abcd", "at most 253"),
        ("ä" * 3000, "more than 2048"),
    ],
)
def test_text_that_is_no_host_name_is_refused_by_a_rule(text: str, rule: str) -> None:
    with pytest.raises(ValueError, match=rule) as refused:
        shop_domain(text)
    assert "\\" not in str(refused.value)
    assert shop_of("shopify", text) is None


@pytest.mark.parametrize("text", ["Shopify", " shopify ", "SHOPIFY\n"])
def test_platform_in_any_form_has_one_name(text: str) -> None:
    assert platform_name(text) == "shopify"
    assert shop_of(text, "a") == ("shopify", "a")


@pytest.mark.parametrize("text", ["", "Shopify Plus", "a:b", "ｓhopify", "\u212a", "x" * 65])
def test_text_that_names_no_platform_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="1 to 64 letters"):
        platform_name(text)
    assert shop_of(text, "a") is None


def test_refusal_names_each_field_its_value_and_the_rule() -> None:
    with pytest.raises(ValueError, match="platform") as refused:
        shop_names("Shopify Plus", f"{'b' * 300}@x")
    platform, domain = str(refused.value).split("; ")
    assert platform.startswith("platform 'Shopify Plus': a platform is 1 to 64 letters")
    assert domain == f"domain '{'b' * 100}…': it has an @, as an e-mail address or an address " + (
        "with a user"
    )


def test_shop_that_a_person_seeks_is_found_by_any_form() -> None:
    assert sought_shop(" Shopify", "https://A.example/") == "shopify:a.example"
    assert sought_shop("Shopify Plus", "A/") == "shopify plus:a/"


TEXT = st.text(max_size=40) | st.text(
    st.sampled_from("aZ09-_.:/?#@[]\\ \täßİſ\u212a．。\u200b\u200d\u202exn💩"), max_size=30
)


@given(TEXT, TEXT)
def test_name_has_one_form_and_the_verifier_reads_the_same(platform: str, domain: str) -> None:
    try:
        names = shop_names(platform, domain)
    except ValueError:
        assert shop_of(platform, domain) is None
        return
    assert shop_names(*names) == names
    assert shop_of(platform, domain) == names


@given(TEXT)
def test_domain_has_one_form_by_both_readings(text: str) -> None:
    try:
        name = shop_domain(text)
    except ValueError:
        assert shop_of("a", text) is None
        return
    assert (shop_domain(name), shop_of("a", text)) == (name, ("a", name))
