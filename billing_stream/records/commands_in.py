"""Commands as others send them: amounts are text or numbers, as in every other input."""

from decimal import Decimal
from typing import Any, Union, get_args

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import fields

from billing_stream.domain.commands import (
    Amount,
    Command,
    CreateMerchant,
    DisputeCharge,
    FailRefund,
    ImportMerchant,
    OldPurchase,
    PositiveAmount,
    RefundCharge,
    UpdateCharge,
)
from billing_stream.domain.outcomes import ErrorCode
from billing_stream.domain.shop_names import shop_names
from billing_stream.domain.webhooks import unknown_status
from billing_stream.errors import InvalidRecord
from billing_stream.records import topics
from billing_stream.records.amounts import amount_text
from billing_stream.records.operator_commands import BY_OPERATORS
from billing_stream.records.payloads import PurchaseDisputedIn, PurchaseRefundedIn, RefundFailedIn

_AMOUNTS = {Amount: Decimal, PositiveAmount: Decimal}
_OPTIONAL = {kind | None: Decimal | None for kind in _AMOUNTS}


def _with_numbers(kind: Any, others: dict[Any, Any]) -> Any:
    """The struct with amounts that may be numbers, or itself where it has none."""
    read = {**_AMOUNTS, **_OPTIONAL, **others}
    known = fields(kind)
    if not any(field.type in read for field in known):
        return kind
    config = kind.__struct_config__
    return msgspec.defstruct(
        f"{kind.__name__}In",
        [
            (field.name, read.get(field.type, field.type))
            if field.required
            else (field.name, read.get(field.type, field.type), field.default)
            for field in known
        ],
        namespace={"__doc__": kind.__doc__},
        frozen=True,
        kw_only=True,
        gc=False,
        tag=config.tag,
        tag_field=config.tag_field,
    )


_OLD_PURCHASE = _with_numbers(OldPurchase, {})
_purchases = next(field.type for field in fields(ImportMerchant) if field.name == "purchases")
_PURCHASES: dict[Any, Any] = {_purchases: tuple.__class_getitem__((_OLD_PURCHASE, ...))}
_ASKED = (kind for kind in get_args(Command) if kind not in BY_OPERATORS)
_READ = {_with_numbers(kind, _PURCHASES): kind for kind in _ASKED}
CommandIn: Any = Union[*_READ]
"""The type of a command of `billing.commands.v1`."""


def command_of(read: Any) -> Command:
    """The command. Raises InvalidRecord or DecodeError where an amount is not a sum of money."""
    kind = _READ[type(read)]
    if type(read) is kind:
        command: Command = read
        return command
    converted: Command = msgspec.convert(_plain(read), kind)
    return converted


# Of money that goes back, by topic, with the command.
RETURNS: dict[str, tuple[msgspec.json.Decoder[Any], Any]] = {
    topics.PURCHASE_REFUNDED: (msgspec.json.Decoder(PurchaseRefundedIn), RefundCharge),
    topics.REFUND_FAILED: (msgspec.json.Decoder(RefundFailedIn), FailRefund),
    topics.PURCHASE_DISPUTED: (msgspec.json.Decoder(PurchaseDisputedIn), DisputeCharge),
}


def returned(topic: str, payload: bytes | Raw, command_id: str) -> Command:
    """The command that says what a payload of one of `RETURNS` does. Raises as `command_of`."""
    decoder, kind = RETURNS[topic]
    found = _plain(decoder.decode(payload))
    for name in ("merchant_id", "purchase_id"):
        found[name] = found[name] and found[name].lower()
    command: Command = msgspec.convert({**found, "command_id": command_id}, kind)
    return command


def require_acceptable(payload: object) -> None:
    """Raises InvalidRecord for a status, or a name of a shop, that every state refuses."""
    if isinstance(payload, UpdateCharge):
        refused = unknown_status(payload.status)
        if refused is not None:
            raise InvalidRecord(f"{refused.code}: {refused.message}")
    elif isinstance(payload, CreateMerchant):
        try:
            shop_names(payload.platform, payload.domain)
        except ValueError as error:
            raise InvalidRecord(f"{ErrorCode.INVALID_SHOP}: {error}") from None


def amount_of(amount: Decimal | None, name: str = "amount") -> str | None:
    """The decimal text of an amount. Raises InvalidRecord where it is not a sum of money."""
    try:
        return None if amount is None else amount_text(amount, name)
    except ValueError as error:
        raise InvalidRecord(str(error)) from None


def _plain(read: Struct) -> dict[str, Any]:
    """Its fields, with amounts as text and currencies in capitals."""
    found = {name: getattr(read, name) for name in read.__struct_fields__}
    for name, value in found.items():
        if isinstance(value, Decimal):
            found[name] = amount_of(value, name)
        elif name == "currency":
            found[name] = value and value.upper()
        elif name == "purchases":
            found[name] = tuple(map(_plain, value))
    return found
