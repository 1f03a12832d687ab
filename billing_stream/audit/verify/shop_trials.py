"""Trials of shops: who claimed each, what its owner answered, and who had one.

Written from the contract: the first claim of a shop counts. A merchant that asks is answered once,
and only the first is granted the trial. A claim says where a trial started without asking.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, NamedTuple

from billing_stream.audit.verify.log_records import Record, partition_of
from billing_stream.audit.verify.odd_json import InvalidInput
from billing_stream.records import topics as names
from billing_stream.records.record_ref import RecordRef

ASKED, STARTED, FOUND = "asked", "started", "found"
PER_MERCHANT, PER_SHOP = "merchant", "shop"
USED = "TRIAL_ALREADY_USED"


class TrialClaim(NamedTuple):
    """What a merchant's row says of its claim. `granted` None: not answered, or not asked."""

    shop: str
    granted: bool | None = None
    by: str = ""
    key: str | None = None


class ShopClaim(NamedTuple):
    """A record that claims the trial of a shop."""

    shop: str
    merchant: str
    why: str
    once_per: str


class Claimed(NamedTuple):
    """A claim, and where it is."""

    ref: RecordRef
    claim: ShopClaim


@dataclass
class ShopTrialFacts:
    """Claims by shop, in the order of the log, and the merchant of each shop by the table."""

    claims: dict[str, list[Claimed]] = field(default_factory=lambda: defaultdict(list))
    rows: dict[str, str] = field(default_factory=dict)
    _by_merchant: dict[str, list[ShopClaim]] = field(default_factory=lambda: defaultdict(list))

    def take(self, claim: ShopClaim, record: Record, partitions: int) -> None:
        """A claim. Raises InvalidInput when it is not where only workers write it."""
        if record.partition != partition_of(claim.shop, partitions):
            raise InvalidInput("a claim on another partition than that of its shop")
        if not record.topic.endswith(names.SHOPS):
            raise InvalidInput("a claim on another topic than that of shops")
        self.claims[claim.shop].append(Claimed(RecordRef.of(record), claim))
        self._by_merchant[claim.merchant].append(claim)

    def of(self, merchant: str) -> list[ShopClaim]:
        """All claims of a merchant."""
        return self._by_merchant.get(merchant, [])


def shop_key(platform: str, shop_id: str) -> str:
    """How the trial of a shop is named: the platform and a digest of its own id of the shop."""
    number = shop_id.removeprefix("gid://shopify/Shop/")
    return f"{platform.lower()}:#{sha256(number.encode()).hexdigest()[:32]}"


def answer_of(data: Mapping[str, Any]) -> tuple[str, bool]:
    """The shop of an answer, and whether its trial is granted. Raises InvalidInput."""
    shop, granted = data.get("shop"), data.get("granted")
    if not isinstance(shop, str) or not 1 <= len(shop) <= 255 or not isinstance(granted, bool):
        raise InvalidInput("an answer is shop and granted")
    return shop, granted


def claim_of(data: Mapping[str, Any]) -> ShopClaim:
    """The claim that a record of shops with a field `record` is. Raises InvalidInput."""
    if data["record"] != "trial_claimed":
        raise InvalidInput(f"no record {data['record']!r} is known")
    said = [data.get(name) for name in ("shop", "merchant_id", "why", "once_per")]
    if not all(isinstance(one, str) for one in said):
        raise InvalidInput("a claim is shop, merchant_id, why and once_per")
    claim = ShopClaim(*map(str, said))
    if claim.why not in (ASKED, STARTED, FOUND) or claim.once_per not in (PER_MERCHANT, PER_SHOP):
        raise InvalidInput("why or once_per is a word that is not known")
    return claim
