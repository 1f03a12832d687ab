"""An odd id or time of an installation is unknown, to workers and to the verifier alike."""

import pytest

from billing_stream.audit.verify import verify_inputs
from billing_stream.audit.verify.log_records import micros_of
from billing_stream.domain.commands import CreateMerchant
from billing_stream.records import schemas, topics
from tests.support.partition import record
from tests.support.world import M1

UNKNOWN: tuple[str, ...] = (
    "null",
    '""',
    '" "',
    "7.0",
    "1e400",
    "9" * 5000,
    '"a\\u0000b"',
    '"\\ud800"',
    "true",
)
UNKNOWN += ("[]", '{"a": 1e400}', '"' + "x" * 256 + '"', '"\N{REPLACEMENT CHARACTER}"')
NO_TIME = ('"2026-01-01"', "1767225600", '"soon"', '"0001-01-01T00:00:00+14:00"', '"7"')
IDS = {"7": "7", '" 7 "': "7", '"gid://shopify/Shop/7"': "gid://shopify/Shop/7", "0": "0"}
TIMES = ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00", "2026-01-01T02:00:00+02:00")
NEW_YEAR = 1_767_225_600_000_000


def read(name: str, raw: str) -> tuple[str | None, int | None]:
    """The id and the time, as both read them."""
    fields = f'"merchant_id": "{M1}", "platform_name": "shopify", "domain": "a.example"'
    value = f'{{{fields}, "{name}": {raw}}}'.encode()
    sent = record(topics.MERCHANT_CREATED, 0, value)
    command = schemas.decode(topics.MERCHANT_CREATED, sent, len(value)).payload
    assert isinstance(command, CreateMerchant)
    at = command.installed_at
    found = command.platform_shop_id, None if at is None else micros_of(at)
    parsed = verify_inputs.read(topics.MERCHANT_CREATED, value, sent.timestamp, "r", len(value))
    assert isinstance(parsed, verify_inputs.ParsedCommand)
    assert (parsed.shop_id, parsed.installed) == found
    return found


@pytest.mark.parametrize("raw", UNKNOWN)
def test_invalid_id_is_unknown_and_refuses_nothing(raw: str) -> None:
    assert read("platform_shop_id", raw) == (None, None)


@pytest.mark.parametrize("raw", [*UNKNOWN, *NO_TIME])
def test_invalid_time_is_unknown_and_refuses_nothing(raw: str) -> None:
    assert read("installed_at", raw) == (None, None)


@pytest.mark.parametrize(("raw", "shop_id"), IDS.items())
def test_id_is_text_without_spaces_around_it(raw: str, shop_id: str) -> None:
    assert read("platform_shop_id", raw) == (shop_id, None)


@pytest.mark.parametrize("text", TIMES)
def test_time_without_a_zone_is_in_utc(text: str) -> None:
    assert read("installed_at", f'"{text}"') == (None, NEW_YEAR)
