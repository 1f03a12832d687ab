"""Which merchant has the trial of each shop, in the lane of the partition of the shop's key.

Lanes of merchants write claims to its input. Those that ask are answered on the input of their
commands.
"""

from typing import Protocol

from billing_stream.domain.commands import AnswerTrialClaim
from billing_stream.domain.shop_trial import ClaimCause, TrialClaimed
from billing_stream.engine.partition_processor import Outgoing
from billing_stream.engine.partitioner import partition_of
from billing_stream.records import topics
from billing_stream.records.schemas import InputRecord
from billing_stream.records.topics import Topics
from billing_stream.tables.rows import PartitionRows, StagedRows
from billing_stream.tables.shop_trial_records import OF_SHOP, answered


class Place(Protocol):
    """A partition among how many, and the names of topics."""

    partition: int
    partitions: int
    names: Topics


def take(
    said: TrialClaimed,
    record: InputRecord,
    correlation_id: str | None,
    rows: StagedRows,
    place: Place,
    out: list[Outgoing],
) -> bool:
    """Give the shop's trial to the first that claims it; False: it is where no worker writes it.

    Not everyone who may write commands may claim the trials of shops.
    """
    here = partition_of(said.shop, place.partitions) == place.partition == record.partition
    if not here or record.topic != place.names.name(topics.SHOPS):
        return False
    first = rows.trials.setdefault(said.shop, said.merchant_id)
    if said.why is ClaimCause.ASKED:
        answer = AnswerTrialClaim(said.merchant_id, said.shop, first == said.merchant_id)
        out.append(answered(answer, correlation_id, place.names, place.partitions))
    return True


def restore(rows: PartitionRows, key: bytes, value: bytes) -> bool:
    """Take a shop's merchant from the changelog; False: it is another mark."""
    if not key.startswith(OF_SHOP):
        return False
    rows.trials[key.removeprefix(OF_SHOP).decode()] = value.decode()
    return True
