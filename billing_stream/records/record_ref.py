"""Where a record is."""

from typing import NamedTuple, Protocol, Self


class Located(Protocol):
    """A record that knows where it is."""

    @property
    def topic(self) -> str:
        """Its topic."""

    @property
    def partition(self) -> int:
        """Its partition."""

    @property
    def offset(self) -> int:
        """Its offset."""


record_ref = "{}[{}]@{}".format
"""The text of a reference to topic, partition and offset, for where nothing else is needed."""


class RecordRef(NamedTuple):
    """A record's topic, partition and offset; as text `topic[partition]@offset`."""

    topic: str
    partition: int
    offset: int

    @classmethod
    def of(cls, record: Located) -> Self:
        """The reference of a record that was read."""
        return cls(record.topic, record.partition, record.offset)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `str()` of one back. Raises ValueError for any other text.

        >>> RecordRef.parse("billing.commands.v1[3]@17")
        RecordRef(topic='billing.commands.v1', partition=3, offset=17)
        """
        topic, bracket, rest = text.rpartition("[")
        partition, closing, offset = rest.partition("]@")
        if not bracket or not closing or not (partition + offset).isdecimal():
            raise ValueError(f"not a record reference: {text!r}")
        return cls(topic, int(partition), int(offset))

    @classmethod
    def parse_or_none(cls, text: str | None) -> Self | None:
        """Read `str()` of one back, or None for any other text, as `http` or `timer`."""
        try:
            return cls.parse(text or "")
        except ValueError:
            return None

    def __str__(self) -> str:
        return record_ref(*self)
