"""Signatures as the specification has them, computed here without the library that signs."""

import base64
import hashlib
import hmac
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from billing_stream.deliver.delivery_rounds import Due
from billing_stream.deliver.endpoints import new_secret
from billing_stream.deliver.sending import signed_headers

BODY = '{"type":"evt.billing.trial.started.v1","data":{"note":"Grüße"}}'.encode()


def expected(secret: str, event_id: str, timestamp: str, body: bytes) -> str:
    """`v1,` and the HMAC-SHA256 of `id.timestamp.body` with the key in the secret."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{event_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def test_headers_are_those_of_the_specification() -> None:
    secrets, now = (new_secret(), new_secret()), datetime(2026, 11, 30, 12, 0, 0, 999_999, UTC)
    headers = signed_headers(secrets, Due(1, "event-1", "type", BODY, 0), now)

    assert headers["webhook-id"] == "event-1"
    assert headers["webhook-timestamp"] == str(
        int(datetime(2026, 11, 30, 12, tzinfo=UTC).timestamp())
    )
    assert headers["webhook-signature"].split() == [
        expected(secret, "event-1", headers["webhook-timestamp"], BODY) for secret in secrets
    ]
    assert all(len(base64.b64decode(one.removeprefix("whsec_"))) == 32 for one in secrets)


@pytest.mark.parametrize("changed", ["body", "id", "secret"])
def test_what_was_changed_does_not_verify(changed: str) -> None:
    secret = new_secret()
    headers = signed_headers((secret,), Due(1, "event-1", "type", BODY, 0), datetime.now(UTC))
    Webhook(secret).verify(BODY, headers)

    if changed == "id":
        headers["webhook-id"] = "event-2"
    verifier = Webhook(new_secret() if changed == "secret" else secret)
    with pytest.raises(WebhookVerificationError):
        verifier.verify(BODY + b" " if changed == "body" else BODY, headers)
