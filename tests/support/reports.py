"""What platforms report of a charge, in one word each, as commands."""

from typing import Any

from billing_stream.domain.commands import (
    Command,
    DisputeCharge,
    FailRefund,
    RefundCharge,
    UpdateCharge,
)
from billing_stream.domain.reports import DisputeStatus

REPORTS: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "paid": (UpdateCharge, {"status": "ACTIVE"}),
    "paid 9.99": (UpdateCharge, {"status": " Accepted", "amount": "9.990", "currency": "USD"}),
    "paid 200": (UpdateCharge, {"status": "active", "amount": "200"}),
    "paid 1.00": (UpdateCharge, {"status": "active", "amount": "1.00"}),
    "paid in JPY": (UpdateCharge, {"status": "active", "amount": "999", "currency": "JPY"}),
    "unknown word": (UpdateCharge, {"status": "succeeded"}),
    "refund": (RefundCharge, {}),
    "refund 3.00": (RefundCharge, {"amount": "3.00", "currency": "USD"}),
    "refund 300 of 1500 JPY": (
        RefundCharge,
        {"amount": "300", "charge_amount": "1500", "currency": "JPY"},
    ),
    "refund 500 of 1500 JPY": (
        RefundCharge,
        {"amount": "500", "charge_amount": "1500", "currency": "JPY"},
    ),
    "refund 5 EUR": (RefundCharge, {"amount": "5", "currency": "EUR"}),
    "refund r1": (RefundCharge, {"refund_id": "r1", "amount": "2.00"}),
    "refund r2": (RefundCharge, {"refund_id": "r2", "amount": "700", "charge_amount": "1500"}),
    "refund r3": (RefundCharge, {"refund_id": "r3"}),
    "fail r1": (FailRefund, {"refund_id": "r1", "amount": "2.00"}),
    "fail r3": (FailRefund, {"refund_id": "r3"}),
    "fail r4": (FailRefund, {"refund_id": "r4", "amount": "3.00"}),
    "fail 200 JPY": (FailRefund, {"refund_id": "r5", "amount": "200"}),
    "dispute d1": (DisputeCharge, {"dispute_id": "d1", "status": DisputeStatus.WITHDRAWN}),
    "reinstate d1": (DisputeCharge, {"dispute_id": "d1", "status": DisputeStatus.REINSTATED}),
    "win d1": (DisputeCharge, {"dispute_id": "d1", "status": DisputeStatus.WON}),
    "lose d1": (DisputeCharge, {"dispute_id": "d1", "status": DisputeStatus.LOST}),
    "dispute d2": (
        DisputeCharge,
        {"dispute_id": "d2", "status": DisputeStatus.WITHDRAWN, "amount": "4.00"},
    ),
    "lose d2": (
        DisputeCharge,
        {"dispute_id": "d2", "status": DisputeStatus.LOST, "amount": "4", "currency": "USD"},
    ),
}


def report(merchant: str, charge: str, what: str, command_id: str = "") -> Command:
    """The command of a report."""
    kind, fields = REPORTS[what]
    command: Command = kind(merchant, charge, command_id=command_id, **fields)
    return command


IN_DOLLARS = tuple(name for name in REPORTS if "JPY" not in name and name != "refund r2")
"""Those of a charge in the currency of the purchase; the rest of a charge of 1500 JPY."""
IN_YEN = (
    "paid",
    "unknown word",
    "refund",
    "refund 300 of 1500 JPY",
    "refund 500 of 1500 JPY",
    "refund r2",
    "refund r3",
    "fail r3",
    "fail 200 JPY",
    "dispute d1",
    "reinstate d1",
    "win d1",
    "lose d1",
)
