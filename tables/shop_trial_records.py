"""The records of the trials of shops: marks of who has them, claims, and answers to claims."""

from collections.abc import Iterable, Iterator, Mapping

from billing_stream.domain.commands import AnswerTrialClaim
from billing_stream.domain.outcomes import TrialClaimed
from billing_stream.engine.log import MARK_PREFIX
from billing_stream.engine.partition_processor import Outgoing
from billing_stream.engine.partitioner import partition_of
from billing_stream.records import topics
from billing_stream.records.schemas import encode
from billing_stream.records.topics import Topics
from billing_stream.records.upcasting.versions import WRITTEN

# The marks that name the merchant of a shop's trial begin so.
OF_SHOP = b"trial/"


def marks(topic: str, trials: Mapping[str, str]) -> Iterator[Outgoing]:
    """The merchants of these shops' trials, for the changelog `topic`."""
    for shop, first in trials.items():
        yield Outgoing(topic, MARK_PREFIX + OF_SHOP + shop.encode(), first.encode(), WRITTEN)


def claims(
    made: Iterable[TrialClaimed], correlation_id: str, names: Topics, partitions: int
) -> Iterator[Outgoing]:
    """Claims, for the partitions of their shops."""
    for claim in made:
        value = encode({"correlation_id": correlation_id, "data": claim})
        partition = partition_of(claim.shop, partitions)
        yield Outgoing(names.name(topics.SHOPS), claim.shop.encode(), value, partition=partition)


def answered(
    answer: AnswerTrialClaim, correlation_id: str | None, names: Topics, partitions: int
) -> Outgoing:
    """The answer to a claim, for the partition of the merchant."""
    value = encode({"correlation_id": correlation_id, "data": answer})
    key, partition = answer.merchant_id.encode(), partition_of(answer.merchant_id, partitions)
    return Outgoing(names.name(topics.COMMANDS), key, value, partition=partition)
