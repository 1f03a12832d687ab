"""Input records, read once more: what each says, or why it is bad.

Written from the contract.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from billing_stream.audit.verify import catalogue_versions, shop_claims
from billing_stream.audit.verify.content import headers_size, why_unreadable
from billing_stream.audit.verify.log_records import Record, micros_of
from billing_stream.audit.verify.model_state import RULES, Terms
from billing_stream.audit.verify.odd_json import InvalidInput, payloads
from billing_stream.audit.verify.releases import Old, read_old
from billing_stream.audit.verify.shop_claims import Shop
from billing_stream.audit.verify.shop_trials import ShopClaim, answer_of, claim_of
from billing_stream.audit.verify.stated_money import currency_of, money_of
from billing_stream.records import topics as names
from billing_stream.records.record_ref import RecordRef

FORWARDED_TOPIC = "billing-forwarded-topic"
FORWARDED_FROM = "billing-forwarded-from"
REDRIVEN_FROM = "billing-redriven-from"
REDRIVEN_FROM_CHARS_MAX = 300
KEY_AND_HEADERS_MAX = 32_768
# The years 1000 to 8999, in ms since the epoch.
TIMESTAMP_MIN, TIMESTAMP_MAX = -30_610_224_000_000, 221_845_391_999_999
PLATFORMS = ("shopify", "stripe", "custom")
DISPUTED = ("withdrawn", "lost", "won", "reinstated")
_RETURNS = {
    names.PURCHASE_REFUNDED: "refund",
    names.REFUND_FAILED: "refund_failed",
    names.PURCHASE_DISPUTED: "dispute",
}
_RETURN_COMMANDS = {
    "refund_charge": "refund",
    "fail_refund": "refund_failed",
    "dispute_charge": "dispute",
}
_OF_INSTALLATIONS = {"forget_merchant": "forget", "uninstall_merchant": "uninstall"}
_UUID = re.compile(r"[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_KEY = re.compile(r"[^\x00-\x1f\x7f]{1,255}")

_Moment = Annotated[datetime, Meta(tz=True)]
ADJUSTMENT_MAX = 1_000_000
TRIAL_DAYS_MAX = 3_653
EXTEND = "extend_trial"
SET_SHOP = "set_shop"
_ANY = 1 << 31


class ParsedCommand(NamedTuple):
    """A command, whatever way it came. What it has no use for is empty."""

    command: str
    merchant: str
    command_id: str = ""
    charge: str = ""
    purchase: str = ""
    # The status, the pack, the reason or the domain: what this command has one of.
    text: str = ""
    platform: str = ""
    url: str = ""
    key: str | None = None
    amount: str | None = None
    # The credits of an adjustment; the time a clock is moved to; how many purchases expire, or 0;
    # the days of an extension, or 0.
    number: int = 0
    # The merchant as the service before this one had it.
    old: Old | None = None
    # What the merchant reads of an adjustment or an extension; why an operator sets a shop.
    note: str | None = None
    # The code of the limit that refused it, empty where none did; None: the log does not say.
    refused_by: str | None = None
    # What was sold by it, where the log says so; of a trial, the credits that were announced.
    terms: Terms | None = None
    # The versions of the catalogue that its partition knew.
    versions: catalogue_versions.Known = ()
    # Of a purchase that is opened, or an amount, where it is named; whether a charge costs nothing.
    currency: str | None = None
    test: bool = False
    # Of what the amount is a part; the refund or dispute, where it has an id of its own.
    charge_amount: str | None = None
    own: str | None = None
    # By which version of the rules it was decided.
    rules: int = RULES
    # What the owner of a shop says of its trial; by the events, whether it is asked.
    granted: bool = False
    asks: bool | None = None
    # The end that an extension asks for, where it asks for no days.
    ends: int | None = None
    # Of an installation: the platform's id of the shop, and when it was made.
    shop_id: str | None = None
    installed: int | None = None
    # When it happened, of what a platform reports of an installation.
    at: int | None = None


class AboutInput(NamedTuple):
    """A command of an operator about an input, or the catalogue.

    `skips` is the record to be passed over.
    """

    command: str
    topic: str
    by: str
    reason: str
    skips: RecordRef | None
    about_catalogue: Any = None


def require_readable(record: Record) -> None:
    """Raises InvalidInput when the client could not read it, or key and headers are too large."""
    why = why_unreadable(record)
    if why is not None:
        raise InvalidInput(why)
    if len(record.key or b"") + headers_size(record.headers) > KEY_AND_HEADERS_MAX:
        raise InvalidInput(f"key and headers have more than {KEY_AND_HEADERS_MAX} bytes")


def read(
    topic: str, value: bytes | None, timestamp: int, ref: str, bytes_max: int
) -> ParsedCommand | Shop | ShopClaim | AboutInput:
    """What a record of `topic` (its name without prefix) says. Raises Bad.

    `timestamp` is the record's, in ms since the epoch.
    """
    if value is None:
        raise InvalidInput("the value is null")
    if not TIMESTAMP_MIN <= timestamp <= TIMESTAMP_MAX:
        raise InvalidInput("the timestamp is not in milliseconds")
    if len(value) > bytes_max:
        raise InvalidInput(f"the value has more than {bytes_max} bytes")
    *earlier, data = payloads(value)
    for one in earlier:
        # Of fields that stand there twice each must be valid, and the last counts.
        _said(topic, value, one, ref)
    return _said(topic, value, data, ref)


def _said(
    topic: str, value: bytes, data: Mapping[str, Any], ref: str
) -> ParsedCommand | Shop | ShopClaim | AboutInput:
    parsed: ParsedCommand | AboutInput
    if topic == names.PURCHASE_UPDATED:
        status = _text(data, "status", 64)
        parsed = ParsedCommand("update", _uuid(data), ref, _text(data, "charge_id"), text=status)
        amount, currency = _stated(data, capitals=False)
        parsed = parsed._replace(amount=amount, currency=currency)
    elif topic in _RETURNS:
        parsed = _returned(_RETURNS[topic], data, _uuid(data), ref, capitals=False)
    elif topic == names.MERCHANT_CREATED:
        platform, domain = (_name(data, field) for field in ("platform_name", "domain"))
        parsed = ParsedCommand("create", _uuid(data), ref, text=domain, platform=platform)
        parsed = parsed._replace(**shop_claims.installation(data))
    elif topic == names.SHOPS:
        return claim_of(data) if "record" in data else shop_claims.said_of(data)
    elif topic in (names.COMMANDS, names.OPERATOR_COMMANDS):
        of_merchant = data.get("command") in (EXTEND, SET_SHOP)
        by_operators = topic == names.OPERATOR_COMMANDS
        if of_merchant and not by_operators:
            raise InvalidInput("a command that comes by the topic of operators only")
        parsed = command(data, ref) if of_merchant or not by_operators else _about_input(data)
    else:
        raise InvalidInput(f"no records of topic {topic!r} are known")
    if b"\\u0000" in value and any(isinstance(part, str) and "\0" in part for part in parsed):
        raise InvalidInput("a field contains a NUL character")
    return parsed


def command(data: Mapping[str, Any], command_id: str | None = None) -> ParsedCommand:
    """A command of `billing.commands.v1` or of the journal, which has its own id. Raises Bad."""
    name = _text(data, "command")
    merchant = _uuid(data)
    own = _text(data, "command_id", 1 << 20, default="", least=0)
    source = own if command_id is None else command_id
    if name in ("create_merchant", SET_SHOP):
        platform, domain = (_text(data, field, _ANY, least=0) for field in ("platform", "domain"))
        shop = ParsedCommand("create", merchant, source, text=domain, platform=platform)
        if name == SET_SHOP:
            return shop._replace(command=name, key=_operators_key(data), note=data["reason"])
        return shop._replace(**shop_claims.stated_installation(data))
    if name == "start_trial":
        return ParsedCommand("trial", merchant, source, key=_key(data))
    if name == "answer_trial_claim":
        of, granted = answer_of(data)
        return ParsedCommand("answer", merchant, source, text=of, granted=granted)
    if name == "reserve_purchase":
        pack, url = _text(data, "pack"), _text(data, "return_url", 2048, default="/")
        if data.get("cancel_url") is not None:
            url += "\x1f" + _text(data, "cancel_url", 2048)
        platform = _text(data, "platform")
        if platform not in PLATFORMS:
            raise InvalidInput("the platform is unknown")
        reserve = ParsedCommand("reserve", merchant, source, text=pack, platform=platform, url=url)
        return reserve._replace(key=_key(data), currency=currency_of(data))
    if name == "attach_charge":
        charge, url = _text(data, "charge_id"), _text(data, "checkout_url", 2048)
        attach = ParsedCommand("attach", merchant, source, charge, _purchase(data), url=url)
        return attach._replace(test=_flag(data, "test"))
    if name == "fail_purchase":
        reason = _text(data, "reason")
        return ParsedCommand("fail", merchant, source, purchase=_purchase(data), text=reason)
    if name == "update_charge":
        charge, status = _text(data, "charge_id"), _text(data, "status")
        update = ParsedCommand("update", merchant, source, charge, text=status)
        amount, currency = _stated(data)
        return update._replace(amount=amount, currency=currency)
    if name in _RETURN_COMMANDS:
        return _returned(_RETURN_COMMANDS[name], data, merchant, source)
    if name == "pass_time":
        return ParsedCommand("time", merchant, source, number=_most(data))
    if name == "adjust_credits":
        key, reason, credits = _operators_key(data), data["reason"], _credits(data)
        note = _key(data, "merchant_note")
        return ParsedCommand(
            "adjust", merchant, source, text=reason, key=key, number=credits, note=note
        )
    if name == EXTEND:
        return _extension(data, merchant, source)
    if name in _OF_INSTALLATIONS:
        about = "" if data.get("shop") is None else _text(data, "shop")
        at = None if data.get("triggered_at") is None else _moment(data, "triggered_at")
        return ParsedCommand(_OF_INSTALLATIONS[name], merchant, source, text=about, at=at)
    if name == "move_clock":
        return ParsedCommand("clock", merchant, source, number=_moment(data))
    if name == "import_merchant":
        return _import(data, merchant, source)
    raise InvalidInput(f"no command {name!r} is known")


def _stated(data: Mapping[str, Any], *, capitals: bool = True) -> tuple[str | None, str | None]:
    """An amount and its currency; on topics of others that is in any letter case."""
    currency = data.get("currency")
    if not capitals and isinstance(currency, str) and currency.isascii():
        currency = currency.upper()
    return money_of(data.get("amount")), currency_of({"currency": currency})


def _returned(
    kind: str, data: Mapping[str, Any], merchant: str, source: str, *, capitals: bool = True
) -> ParsedCommand:
    """A refund, a failed one, or a dispute."""
    charge, purchase = _text(data, "charge_id"), _purchase(data, optional=True)
    amount = money_of(data.get("amount"))
    parsed = ParsedCommand(kind, merchant, source, charge, purchase, amount=amount)
    if kind == "refund_failed":
        return parsed._replace(own=_text(data, "refund_id"))
    whole = money_of(data.get("charge_amount"), "charge_amount")
    if whole is not None and not Decimal(whole):
        raise InvalidInput("charge_amount is 0")
    _, currency = _stated(data, capitals=capitals)
    parsed = parsed._replace(charge_amount=whole, currency=currency)
    if kind == "refund":
        own = None if data.get("refund_id") is None else _text(data, "refund_id")
        return parsed._replace(own=own)
    status = _text(data, "status")
    if status not in DISPUTED:
        raise InvalidInput(f"status is not one of {', '.join(DISPUTED)}")
    return parsed._replace(own=_text(data, "dispute_id"), text=status)


def _extension(data: Mapping[str, Any], merchant: str, source: str) -> ParsedCommand:
    days, key, reason = data.get("days"), _key(data), _text(data, "reason")
    ends = None if data.get("ends_at") is None else _moment(data, "ends_at")
    if key is None or (days is None) == (ends is None):
        raise InvalidInput("an extension has an idempotency key, and either ends_at or days")
    if days is not None and (type(days) is not int or not 1 <= days <= TRIAL_DAYS_MAX):
        raise InvalidInput("days is not a number of days")
    note = _key(data, "merchant_note")
    parsed = ParsedCommand("extend", merchant, source, text=reason, key=key, note=note)
    return parsed._replace(number=days or 0, ends=ends)


def _import(data: Mapping[str, Any], merchant: str, source: str) -> ParsedCommand:
    platform, domain = (_name(data, field) for field in ("platform", "domain"))
    try:
        old = read_old(data)
    except ValueError as error:
        raise InvalidInput(str(error)) from None
    return ParsedCommand("import", merchant, source, text=domain, platform=platform, old=old)


def _text(
    data: Mapping[str, Any], name: str, longest: int = 255, *, default: Any = None, least: int = 1
) -> str:
    value = data.get(name, default)
    if not isinstance(value, str) or not least <= len(value) <= longest:
        raise InvalidInput(f"{name} is not a text of {least} to {longest} characters")
    return value


def _name(data: Mapping[str, Any], name: str) -> str:
    """A text that should be a name: any, or none."""
    return "" if data.get(name) is None else _text(data, name, _ANY, least=0)


def _uuid(data: Mapping[str, Any], name: str = "merchant_id") -> str:
    value = data.get(name)
    if not isinstance(value, str) or _UUID.fullmatch(value) is None:
        raise InvalidInput(f"{name} is not a uuid")
    return value.lower()


def _purchase(data: Mapping[str, Any], *, optional: bool = False) -> str:
    if optional and data.get("purchase_id") is None:
        return ""
    return _uuid(data, "purchase_id")


def _key(data: Mapping[str, Any], name: str = "idempotency_key") -> str | None:
    """A key, or another text of the same form."""
    value = data.get(name)
    if value is not None and not (isinstance(value, str) and _KEY.fullmatch(value)):
        raise InvalidInput(f"{name} is not a text of 1 to 255 characters without controls")
    return value


def _operators_key(data: Mapping[str, Any]) -> str:
    key = _key(data)
    if key is None or not _text(data, "reason"):
        raise InvalidInput("an operator's command has an idempotency key and a reason")
    return key


def _flag(data: Mapping[str, Any], name: str) -> bool:
    value = data.get(name, False)
    if not isinstance(value, bool):
        raise InvalidInput(f"{name} is neither true nor false")
    return value


def _credits(data: Mapping[str, Any]) -> int:
    value = data.get("credits")
    if type(value) is not int or not 0 < abs(value) <= ADJUSTMENT_MAX:
        raise InvalidInput("the credits are not an adjustment")
    return value


def _most(data: Mapping[str, Any]) -> int:
    value = data.get("most")
    if value is not None and (type(value) is not int or value < 1):
        raise InvalidInput("most is not a number of purchases")
    return value or 0


def _moment(data: Mapping[str, Any], name: str = "to") -> int:
    try:
        return micros_of(msgspec.convert(data.get(name), _Moment))
    except msgspec.ValidationError:
        raise InvalidInput(f"{name} is not a time") from None


def _about_input(data: Mapping[str, Any]) -> AboutInput:
    name = _text(data, "command")
    if name in catalogue_versions.COMMANDS:
        about = catalogue_versions.require_command(name, data)
        return AboutInput(name, "", "", "", None, about)
    topic = _text(data, "topic", 249)
    partition, offset = _number(data, "partition"), None
    by, reason = _text(data, "by"), _text(data, "reason")
    if name == "skip_record":
        offset = _number(data, "offset")
    elif name not in ("resume_input", "accept_topic"):
        raise InvalidInput(f"no command {name!r} is known")
    skips = None if offset is None else RecordRef(topic, partition, offset)
    return AboutInput(name, topic, by, reason, skips)


def _number(data: Mapping[str, Any], name: str) -> int:
    value = data.get(name)
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise InvalidInput(f"{name} is not a number from 0")
    return value
