"""Stripe's signatures, which the custom gateway has too: the same as in Stripe's library."""

import json
import time
from datetime import UTC, datetime, timedelta

import pytest
import stripe

from billing_stream.errors import WebhookForged
from billing_stream.platforms.signatures import sign, verify
from tests.platforms.conftest import NOW

SECRET = "whsec_dGhpcyBpcyB1c2VkIGFzIGl0IGlz"
OLD = "whsec_old"
BODY = b'{"id": "evt_1", "n": "\xc3\xa9"}'
T = int(NOW.timestamp())


def theirs(body: bytes = BODY, secret: str = SECRET, at: int = T) -> str:
    """The header as Stripe's own library makes it."""
    header: str = stripe.WebhookSignature.generate_signature_header(body.decode(), secret, at)
    return header


def refusal(header: str | None, body: bytes = BODY, secrets: list[str] | None = None) -> str:
    with pytest.raises(WebhookForged) as raised:
        verify(header, body, [SECRET] if secrets is None else secrets, NOW)
    return str(raised.value)


def test_what_stripe_signs_is_good() -> None:
    verify(theirs(), BODY, [SECRET], NOW)


def test_stripe_takes_what_we_sign() -> None:
    header = sign(SECRET, BODY, datetime.now(UTC))

    assert stripe.WebhookSignature.verify_header(BODY, header, SECRET, tolerance=300)
    assert sign(SECRET, BODY, NOW) == theirs()


def test_while_a_secret_is_replaced_either_is_good() -> None:
    verify(theirs(secret=OLD), BODY, [SECRET, OLD], NOW)
    verify(theirs(secret=SECRET), BODY, [SECRET, OLD], NOW)
    both = f"t={T},v1={theirs(secret=OLD).split('v1=')[1]},v1={theirs().split('v1=')[1]}"
    verify(both, BODY, [SECRET], NOW)
    verify(both, BODY, [OLD], NOW)


def test_other_schemes_are_ignored() -> None:
    verify(f"{theirs()},v0=00,v2=x", BODY, [SECRET], NOW)
    assert refusal(theirs().replace("v1=", "v0=")) == "the signature is malformed"


def test_another_secret_is_refused() -> None:
    assert refusal(theirs(secret="whsec_other")) == "the signature is wrong"


def test_a_body_altered_in_any_byte_is_refused() -> None:
    for place in range(len(BODY)):
        altered = bytearray(BODY)
        altered[place] ^= 1
        assert refusal(theirs(), bytes(altered)) == "the signature is wrong"


def test_a_timestamp_that_was_not_signed_is_refused() -> None:
    assert refusal(theirs().replace(f"t={T}", f"t={T + 1}")) == "the signature is wrong"


@pytest.mark.parametrize("secrets", [[], [""], [" "], ["", " "]])
def test_an_empty_secret_signs_nothing(secrets: list[str]) -> None:
    for header in (theirs(), sign("", BODY, NOW), sign(" ", BODY, NOW)):
        assert refusal(header, secrets=secrets) == "the signature is wrong"


@pytest.mark.parametrize("header", [None, ""])
def test_a_missing_signature_is_refused(header: str | None) -> None:
    assert refusal(header) == "the signature is missing"


@pytest.mark.parametrize(
    "header",
    [
        "x",
        ",",
        "t=",
        "t=1",
        "v1=00",
        "t=,v1=00",
        "t=-5,v1=00",
        "t=1.5,v1=00",
        "t=nan,v1=00",
        "t=٣,v1=00",
        "t=" + "9" * 5000 + ",v1=00",
    ],
)
def test_a_malformed_signature_is_refused(header: str) -> None:
    assert refusal(header) == "the signature is malformed"


@pytest.mark.parametrize("signature", ["", "é", "\udcff", "x" * 10_000, "00"])
def test_an_odd_signature_is_refused(signature: str) -> None:
    assert refusal(f"t={T},v1={signature}") == "the signature is wrong"


def test_300_seconds_old_is_good_and_301_too_old() -> None:
    verify(theirs(at=T - 300), BODY, [SECRET], NOW)
    assert refusal(theirs(at=T - 301)) == "the signature is too old"


def test_the_future_is_good_as_it_is_to_stripe() -> None:
    at = int(time.time()) + 3600
    assert stripe.WebhookSignature.verify_header(BODY, theirs(at=at), SECRET, tolerance=300)

    verify(theirs(at=T + 3600), BODY, [SECRET], NOW)


def test_a_forger_does_not_learn_that_it_was_also_too_old() -> None:
    assert refusal(theirs(secret="whsec_other", at=1)) == "the signature is wrong"


def test_we_and_stripe_agree_on_whole_events() -> None:
    body = json.dumps({"id": "evt_1", "object": "event", "data": {"object": {}}}).encode()
    now = datetime.now(UTC)
    header = theirs(body, at=int(now.timestamp()))

    assert stripe.Webhook.construct_event(body, header, SECRET).id == "evt_1"
    verify(header, body, [SECRET], now + timedelta(seconds=1))
