"""What is a command, and what is not."""

import msgspec
import pytest

from billing_stream.domain.commands import (
    AdvanceTime,
    AttachCharge,
    Command,
    CreateMerchant,
    FailPurchase,
    RefundCharge,
    ReservePurchase,
    StartTrial,
    UpdateCharge,
)
from billing_stream.domain.model import Platform
from tests.support.world import M1, M2

DECODER: "msgspec.json.Decoder[Command]" = msgspec.json.Decoder(Command)


@pytest.mark.parametrize(
    "command",
    [
        CreateMerchant(M1, "shopify", "a.example", "t[0]@1"),
        StartTrial(M1, "k", "http/1"),
        ReservePurchase(M1, "small", Platform.STRIPE, "https://a.example/back", "k", "http/2"),
        AttachCharge(M1, M2, "charge", "https://pay.example", "http/3"),
        FailPurchase(M1, M2, "no checkout", "http/4"),
        UpdateCharge(M1, "charge", "ACTIVE", "t[0]@2"),
        RefundCharge(M1, "charge", "t[0]@3"),
        AdvanceTime(M1, "timer/1"),
    ],
)
def test_a_command_survives_being_written_and_read(command: Command) -> None:
    assert DECODER.decode(msgspec.json.encode(command)) == command


@pytest.mark.parametrize(
    "merchant_id",
    ["", "m", M1 + "\\n", "\\n" + M1, M1 + " ", M1[:-1], M1 + "0", M1.replace("-", "_"), "{" + M1],
)
def test_what_is_no_uuid_names_no_merchant(merchant_id: str) -> None:
    text = '{"command":"pass_time","merchant_id":"%s"}'

    with pytest.raises(msgspec.ValidationError, match="merchant_id"):
        DECODER.decode(text % merchant_id)
    assert DECODER.decode(text % M1) == AdvanceTime(M1)


@pytest.mark.parametrize(
    "text",
    [
        '{"command":"grant_credits","merchant_id":"%s"}',
        '{"merchant_id":"%s"}',
        '{"command":"update_charge","merchant_id":"%s","charge_id":"","status":"ACTIVE"}',
        '{"command":"update_charge","merchant_id":"%s","charge_id":"c","status":null}',
        '{"command":"update_charge","merchant_id":"%s","charge_id":"c"}',
        '{"command":"start_trial","merchant_id":"%s","idempotency_key":""}',
        '{"command":"start_trial","merchant_id":"%s","idempotency_key":"' + "k" * 256 + '"}',
        '{"command":"reserve_purchase","merchant_id":"%s","pack":"small","platform":"paypal"}',
        '{"command":"reserve_purchase","merchant_id":"%s","pack":7,"platform":"shopify"}',
    ],
)
def test_what_is_no_command_is_refused(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        DECODER.decode(text % M1)
