"""Charges among the committed rows of a partition, and which of them have webhooks that wait."""

from collections.abc import Mapping
from typing import Protocol

from billing_stream.domain.charges import NOTHING, Charge


class WithCharges(Protocol):
    """Rows with charges by their keys; `unclaimed` are those for which webhooks wait."""

    charges: dict[str, Charge]
    unclaimed: dict[str, Charge]


def put_charges(rows: WithCharges, changed: Mapping[str, Charge]) -> None:
    """Add or replace these rows, or remove those of which nothing is known any more."""
    for key, charge in changed.items():
        if charge == NOTHING:
            rows.charges.pop(key, None)
        else:
            rows.charges[key] = charge
        if charge.waiting:
            rows.unclaimed[key] = charge
        else:
            rows.unclaimed.pop(key, None)
