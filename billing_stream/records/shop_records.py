"""Records of `billing.shops.v1`: the merchant of a shop, or a claim to the trial of a shop."""

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from billing_stream.domain.outcomes import ShopRegistered, TrialClaimed


class _Tagged(Struct, frozen=True, gc=False):
    # The merchant of a shop has no tag, in any release.
    record: Raw | UnsetType = UNSET


_tagged = msgspec.json.Decoder(_Tagged)
_claimed = msgspec.json.Decoder(TrialClaimed)
_shop = msgspec.json.Decoder(ShopRegistered).decode


def shop_record_of(payload: bytes | Raw) -> ShopRegistered | TrialClaimed:
    """What the payload of a record says. Raises msgspec.DecodeError."""
    is_claim = _tagged.decode(payload).record is not UNSET
    return _claimed.decode(payload) if is_claim else _shop(payload)
