"""Rules of a charge: which purchase it belongs to, and the webhooks that wait until that is known.

A charge is known by its platform and id, whatever shop or merchant a webhook names. The first
purchase that registers it has it permanently.
"""

from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from billing_stream.domain.model import Instant


class WaitingWebhook(Struct, frozen=True, omit_defaults=True, gc=False):
    """A webhook of a charge that no purchase has registered.

    `topic` and `payload` are those of the record that it becomes, but for its merchant; `source` is
    the reference of its record, `at` when it came. `merchant_id` is that of the shop by then,
    which decides nothing.
    """

    topic: str
    payload: dict[str, Any]
    source: str
    at: Instant
    merchant_id: str | None = None
    correlation_id: str | None = None


class Charge(Struct, frozen=True, omit_defaults=True, gc=False):
    """A row of `charges`: one per platform and charge id.

    Either a purchase of a merchant has it, or webhooks wait for one, oldest first.
    """

    merchant_id: str | None = None
    purchase_id: str | None = None
    waiting: tuple[WaitingWebhook, ...] = ()


NOTHING = Charge()
"""The row of a charge that was never named."""


def register(charge: Charge, merchant_id: str, purchase_id: str) -> Charge | None:
    """The charge once this purchase has it, without what waited; None: another purchase has it."""
    if charge.merchant_id is None:
        return Charge(merchant_id, purchase_id)
    same = (charge.merchant_id, charge.purchase_id) == (merchant_id, purchase_id)
    return charge if same else None


def wait(charge: Charge, webhook: WaitingWebhook, waiting_max: int) -> Charge | None:
    """The charge with one more webhook that waits; the same one again changes nothing.

    None: `waiting_max` of them wait already.
    """
    for known in charge.waiting:
        if (known.topic, known.payload) == (webhook.topic, webhook.payload):
            return charge
    if len(charge.waiting) >= waiting_max:
        return None
    return replace(charge, waiting=(*charge.waiting, webhook))


def expire(
    charge: Charge, now: datetime, expiry: timedelta
) -> tuple[Charge, tuple[WaitingWebhook, ...]]:
    """The charge without the webhooks that have waited for `expiry`, and these."""
    given_up = tuple(webhook for webhook in charge.waiting if webhook.at + expiry <= now)
    return replace(charge, waiting=charge.waiting[len(given_up) :]), given_up
