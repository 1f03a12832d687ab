"""Commands as others send them: amounts are text or numbers, as in every other input."""

from decimal import Decimal
from typing import Any, Union, get_args

from msgspec import Struct

from billing_stream.domain.commands import Command, RefundCharge, Text, Uuid
from billing_stream.errors import InvalidRecord
from billing_stream.records.amounts import amount_text


class RefundChargeIn(Struct, frozen=True, gc=False, tag="refund_charge", tag_field="command"):
    """A platform's webhook: the charge was refunded.

    `purchase_id`, where the platform knows it, goes before `charge_id`. `amount` is the sum of
    all its refunds, a number or text; without it, the whole.
    """

    merchant_id: Uuid
    charge_id: Text
    command_id: str = ""
    purchase_id: Uuid | None = None
    amount: Decimal | None = None


CommandRead = Command | RefundChargeIn

_OTHERS = tuple(kind for kind in get_args(Command) if kind is not RefundCharge)
CommandIn: Any = Union[*_OTHERS, RefundChargeIn]
"""The type of a command of `billing.commands.v1`."""


def command_of(read: CommandRead) -> Command:
    """The command. Raises InvalidRecord where its amount is not a sum of money."""
    if not isinstance(read, RefundChargeIn):
        return read
    return RefundCharge(
        read.merchant_id, read.charge_id, read.command_id, read.purchase_id, amount_of(read.amount)
    )


def amount_of(amount: Decimal | None) -> str | None:
    """The decimal text of an amount. Raises InvalidRecord where it is not a sum of money."""
    try:
        return None if amount is None else amount_text(amount)
    except ValueError as error:
        raise InvalidRecord(str(error)) from None
