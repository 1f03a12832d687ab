"""The inputs: of each its topic, its payload, and the commands that its records become.

One agent reads each. Bytes go to the lane of their partition, which decodes them with
`records.schemas.decode`; nothing is decided here, and no record raises.
"""

from typing import Any

from msgspec import Struct

from billing_stream.domain.commands import (
    Command,
    CreateMerchant,
    DisputeCharge,
    FailRefund,
    RefundCharge,
    UpdateCharge,
)
from billing_stream.domain.outcomes import ShopRegistered, TrialClaimed
from billing_stream.engine.lanes import Lanes
from billing_stream.faust_adapter.faust_app import App
from billing_stream.faust_adapter.faust_inputs import read_input
from billing_stream.records import topics as names
from billing_stream.records.charge_records import ChargeRecord
from billing_stream.records.operator_commands import OperatorCommand
from billing_stream.records.payloads import (
    MerchantCreated,
    PurchaseDisputedIn,
    PurchaseRefundedIn,
    PurchaseUpdated,
    RefundFailedIn,
)
from billing_stream.records.topics import Topics

# Not a union of msgspec: the merchant of a shop has no tag, in any release.
SHOP_RECORD = ShopRegistered | TrialClaimed


class Input(Struct, frozen=True):
    """One input topic. `name` is that of its agent, and part of no record."""

    name: str
    topic: str
    payload: Any
    becomes: Any


INPUTS = (
    Input("merchants", names.MERCHANT_CREATED, MerchantCreated, CreateMerchant),
    Input("webhooks-updated", names.PURCHASE_UPDATED, PurchaseUpdated, UpdateCharge),
    Input("webhooks-refunded", names.PURCHASE_REFUNDED, PurchaseRefundedIn, RefundCharge),
    Input("webhooks-disputed", names.PURCHASE_DISPUTED, PurchaseDisputedIn, DisputeCharge),
    Input("webhooks-refund-failed", names.REFUND_FAILED, RefundFailedIn, FailRefund),
    # From other systems; and records that were forwarded from a wrong partition.
    Input("commands", names.COMMANDS, Command, Command),
    # Which merchant owns a shop or claims its trial, by the lane of the merchant for that of the
    # shop.
    Input("shops", names.SHOPS, SHOP_RECORD, SHOP_RECORD),
    # Which purchase has a charge, written by the lane of its merchant for that of the charge; and
    # webhooks of charges that no purchase has yet.
    Input("charges", names.CHARGES, ChargeRecord, ChargeRecord),
    # What operators decide about inputs.
    Input("operators", names.OPERATOR_COMMANDS, OperatorCommand, OperatorCommand),
)


def register(app: App, lanes: Lanes[Any], topics: Topics) -> None:
    """Declare an agent for each input."""
    for one in INPUTS:
        read_input(app, lanes, topics.name(one.topic), one.name)
