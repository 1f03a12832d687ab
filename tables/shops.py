"""The shops of one partition: the lane of a shop's key decides which merchant has it."""

import logging
from hashlib import sha256

from billing_stream.domain import shops
from billing_stream.domain.outcomes import ShopRegistered
from billing_stream.domain.shops import NOBODYS, Claim, Shop
from billing_stream.engine.partition_processor import Outgoing
from billing_stream.engine.partitioner import partition_of
from billing_stream.records.dead_letters import AddLetter, dead_letter
from billing_stream.records.schemas import InputRecord
from billing_stream.tables.charges import MISPLACED, Place
from billing_stream.tables.codecs import shop_key
from billing_stream.tables.rows import StagedRows

logger = logging.getLogger(__name__)

# The code of a dead letter.
SHOP_TAKEN = "SHOP_TAKEN"
_MEANS = {
    Claim.TAKEN: "SHOP_TAKEN, another shop has the domain",
    Claim.REINSTALLED: "reinstalled, it has the shop now",
    Claim.REPLACED: "it has the shop now, without a platform_shop_id to compare",
    Claim.OLDER: "ignored, a newer one is known",
}
MISPLACED_SHOP = "a shop on a partition that is not its own: workers write none there"


def take(
    said: ShopRegistered,
    record: InputRecord,
    rows: StagedRows,
    place: Place,
    out: list[Outgoing],
    add_letter: AddLetter,
    claims: list[Claim],
) -> bool:
    """Decide a claim of a shop; False: it is on a wrong partition, and a dead letter.

    `claims` gets the outcome of each that is not simply the next one.
    """
    key = shop_key(said.platform, said.domain)
    if not partition_of(key, place.partitions) == place.partition == record.partition:
        # Only lanes write them, and none writes there.
        add_letter(dead_letter(record, MISPLACED_SHOP), MISPLACED)
        return False
    known = rows.shop(key) or rows.shop(erased_key(key)) or NOBODYS
    shop, outcome = shops.claim(known, said)
    if shop != known:
        _put(rows, key, shop)
    if outcome is not None:
        note(claims, outcome, said.merchant_id, known.merchant_id)
    if outcome is Claim.TAKEN:
        why = f"{SHOP_TAKEN}: merchant {known.merchant_id} has it, with another platform_shop_id"
        add_letter(dead_letter(record, why), SHOP_TAKEN)
    written = shops.state_again(shop, said)
    if written is not None:
        out += place.records.shops((written,))
    return True


def note(claims: list[Claim], outcome: Claim, merchant_id: str, former: str | None) -> None:
    """Count and log the outcome of a claim. The domain is personal, and not logged."""
    claims.append(outcome)
    others = f"merchant {former}" if former else "nobody"
    logger.warning(
        "installation of merchant %s: %s (%s)",
        merchant_id,
        _MEANS[outcome],
        "of its own" if former == merchant_id else f"the shop was that of {others}",
    )


def erased_key(key: str) -> str:
    """The key of the row that stays of an erased shop. It has no colon, as those of shops have."""
    return sha256(key.encode()).hexdigest()


def _put(rows: StagedRows, key: str, shop: Shop) -> None:
    """Stage the row; of an erased shop, the time of its newest installation under the other key."""
    erased = erased_key(key)
    has_merchant = shop.merchant_id is not None
    for name, row in ((key, shop if has_merchant else None), (erased, shop)):
        kept = row if name == key or not (has_merchant or shop == NOBODYS) else None
        if kept is not None or rows.shop(name) is not None:
            rows.shops[name] = kept
