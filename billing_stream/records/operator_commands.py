"""Commands of operators, on `billing.operator-commands.v1`.

One about an input is written to the partition of the input, so that the lane which owns it decides
it; `topic` is the input's full name. One that sets the catalogue is written to partition 0, one
about a merchant to the partition of the merchant.
"""

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from billing_stream.domain.commands import ExtendTrial, Key, SetShop, Text
from billing_stream.domain.model import Instant
from billing_stream.records.catalogue_records import SetVersion

TopicName = Annotated[str, Meta(min_length=1, max_length=249)]
Number = Annotated[int, Meta(ge=0)]


class _InputCommand(Struct, frozen=True, gc=False, tag_field="command"):
    topic: TopicName
    partition: Number
    by: Text
    reason: Text


class ResumeInput(_InputCommand, frozen=True, tag="resume_input"):
    """Lift the stop of an input: reading continues at its position. `by` says who asks."""


class SkipRecord(_InputCommand, frozen=True, tag="skip_record", kw_only=True):
    """Move the position of a stopped input over its next record, which becomes a dead letter.

    `offset` is that record's; the input stays stopped.
    """

    offset: Number


class AcceptTopic(_InputCommand, frozen=True, tag="accept_topic"):
    """Accept that the topic of an input has changed: reading continues with what it holds now."""


class PackAsked(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A pack as the file of a catalogue has it: `price` is decimal text by currency."""

    credits: int
    price: dict[str, str]
    title: str | UnsetType = UNSET


class SetCatalogue(
    Struct, frozen=True, omit_defaults=True, tag_field="command", tag="set_catalogue"
):
    """Replace all packs, from `effective_at` on; without it, from the time of this record on.

    `by` says who asks. The lane of partition 0 decides it, once per idempotency key.
    """

    packs: dict[str, PackAsked]
    by: Text
    reason: Text
    effective_at: Instant | None = None
    idempotency_key: Key | None = None


class AdoptCatalogue(Struct, frozen=True, tag_field="command", tag="adopt_catalogue"):
    """Know a version of the catalogue: only the lane of partition 0 writes it, for each other."""

    set: SetVersion


InputCommand = ResumeInput | SkipRecord | AcceptTopic
CatalogueCommand = SetCatalogue | AdoptCatalogue
# Of merchants. They come by this topic only.
BY_OPERATORS = (ExtendTrial, SetShop)
OperatorCommand = InputCommand | CatalogueCommand | ExtendTrial | SetShop
