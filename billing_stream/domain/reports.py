"""What platforms report of a charge, as rows keep it."""

from enum import StrEnum

from msgspec import Struct

from billing_stream.domain.instant import Instant


class ParkedKind(StrEnum):
    """What a parked webhook will do once its charge is known."""

    COMPLETE = "complete"
    FAIL = "fail"
    REFUND = "refund"
    REFUND_FAILED = "refund_failed"
    DISPUTE = "dispute"


class DisputeStatus(StrEnum):
    """What became of a dispute. `withdrawn` and `lost`: the money is gone; the others: it is back.

    What comes later in this order stays, whatever order the webhooks come in.
    """

    WITHDRAWN = "withdrawn"
    LOST = "lost"
    WON = "won"
    REINSTATED = "reinstated"


class ParkedWebhook(Struct, frozen=True, gc=False):
    """A webhook that came before its charge was known.

    `source` is its reference, `topic[partition]@offset`; `at` is when it was parked. `purchase_id`
    is the purchase that it named. The rest is as in its command.
    """

    charge_id: str
    kind: ParkedKind
    status: str
    source: str
    at: Instant
    amount: str | None = None
    purchase_id: str | None = None
    currency: str | None = None
    charge_amount: str | None = None
    refund_id: str | None = None
    dispute_id: str | None = None


class Dispute(Struct, frozen=True, gc=False):
    """A dispute: how it stands, and about which share of the charge."""

    status: DisputeStatus
    share: str


class Returned(Struct, frozen=True, omit_defaults=True, gc=False):
    """What was reported of refunds and disputes of a charge.

    A share of the charge is a fraction, "1/3" or "1". `refunded` is the greatest sum of refunds,
    `refunds` are those with an id of their own. `failed` are the amounts of failed ones by id,
    empty where not known, in the currency of the charge; its whole is `charge_amount`.
    """

    refunded: str = "0"
    refunds: dict[str, str] = {}
    failed: dict[str, str] = {}
    disputes: dict[str, Dispute] = {}
    charge_amount: str | None = None
