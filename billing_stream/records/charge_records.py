"""Records of `billing.charges.v1`, on the partition of their charge's key."""

from typing import Any

from msgspec import Struct

from billing_stream.domain.commands import Text, Uuid
from billing_stream.domain.ids import charge_key


class ChargeRegistered(Struct, frozen=True, gc=False, tag="charge_registered", tag_field="record"):
    """A charge was attached to this purchase. The first one of a charge counts.

    Its key is `platform:charge_id`. A later one of another purchase is a dead letter, and the first
    is written once more after it, so that compaction leaves the one that counts.
    """

    platform: Text
    charge_id: Text
    merchant_id: Uuid
    purchase_id: Uuid

    @property
    def charge(self) -> str:
        """The key of the charge."""
        return charge_key(self.platform, self.charge_id)


class UnroutedWebhook(
    Struct, frozen=True, omit_defaults=True, tag="unrouted_webhook", tag_field="record"
):
    """A webhook that names no merchant, of a charge that no purchase had registered.

    Once a purchase has, it becomes a record of `topic` (without a prefix) with this `payload` and
    the merchant of the purchase. `merchant_id` is that of the shop when it came, which
    decides nothing.
    """

    platform: Text
    charge_id: Text
    topic: Text
    payload: dict[str, Any]
    merchant_id: Uuid | None = None

    @property
    def charge(self) -> str:
        """The key of the charge."""
        return charge_key(self.platform, self.charge_id)

    def key_of(self, delivery: str) -> bytes:
        """The key of the record of a delivery: another one each, so that compaction leaves all."""
        return f"{self.charge}/{delivery}".encode()


ChargeRecord = ChargeRegistered | UnroutedWebhook
