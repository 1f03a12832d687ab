"""Commands of operators about the inputs, on `billing.operator-commands.v1`.

Each is written to the partition of its input, so that the lane which owns the input decides it.
`topic` is the input's full name.
"""

from typing import Annotated

from msgspec import Meta, Struct

from billing_stream.domain.commands import Text

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


OperatorCommand = ResumeInput | SkipRecord | AcceptTopic
