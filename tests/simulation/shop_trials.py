"""The trials of shops of a simulated world, by the rules alone: who has each, and one for each."""

from typing import Any

import msgspec

from billing_stream.domain.commands import AnswerTrialClaim
from billing_stream.engine.partitioner import partition_of
from billing_stream.records import topics as names
from tests.simulation.sim_log import Entry
from tests.simulation.traffic import Meaning


class ShopTrials:
    """`owners` are the merchants that claimed first, by shop; `started` those whose trial began."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self.owners: dict[str, str] = {}
        self.started: dict[str, str] = {}

    def take(self, said: Any, partition: int) -> list[Any]:
        """What must come of a claim."""
        shop, merchant = said["shop"], said["merchant_id"]
        assert partition == partition_of(shop, self._partitions)
        owner = self.owners.setdefault(shop, merchant)
        return [("answer", merchant, shop, owner == merchant)] if said["why"] == "asked" else []

    def start(self, merchant: str, shop_id: str | None) -> None:
        """Note a trial that starts. One of an unknown shop is no other's."""
        if shop_id is not None:
            first = self.started.setdefault(shop_id, merchant)
            assert first == merchant, f"the shop {shop_id} has a second trial"

    def compare(self, tp: tuple[str, int], said: Any, wanted: Any) -> None:
        """Raises AssertionError where a claim or an answer is not what is wanted, or elsewhere."""
        kind, merchant, shop, more = wanted
        topic, key = (names.SHOPS, shop) if kind == "claim" else (names.COMMANDS, merchant)
        assert tp == (topic, partition_of(key, self._partitions)), f"{wanted} to {tp}"
        told = said["merchant_id"], said["shop"], said["why" if kind == "claim" else "granted"]
        assert told == (merchant, shop, more), f"{told}, not {wanted}"


def answer_of(entry: Entry) -> Meaning:
    """What a lane says that has the trial of a shop."""
    said = msgspec.json.decode(entry.value or b"")
    answer = msgspec.convert(said["data"], AnswerTrialClaim)
    return Meaning(answer, said["correlation_id"])
