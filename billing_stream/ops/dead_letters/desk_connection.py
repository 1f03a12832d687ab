"""Which Kafka, and which topics there."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from billing_stream.config.settings import Settings
from billing_stream.kafka.client_options import client_options
from billing_stream.records import topics as names
from billing_stream.records.topics import Topics


class Cluster(Struct, frozen=True):
    """Where dead letters are. `options` are those of every aiokafka client."""

    options: Mapping[str, Any]
    topics: Topics
    partitions: int
    max_record_bytes: int = 262_144
    start_seconds: float = 60.0

    @classmethod
    def of(cls, settings: Settings) -> "Cluster":
        """The one that the settings name."""
        return cls(
            client_options(settings),
            Topics(settings.app_id, settings.topic_prefix),
            settings.partitions,
            settings.max_record_bytes,
            settings.start_deadline.total_seconds(),
        )

    @property
    def letters(self) -> str:
        """The topic of dead letters."""
        return self.topics.name(names.DEAD_LETTERS)

    @property
    def ledger(self) -> str:
        """The topic that says who did what with them."""
        return self.topics.name(names.DEAD_LETTER_ACTIONS)

    @property
    def commands(self) -> str:
        """The topic to which they are redriven."""
        return self.topics.name(names.COMMANDS)

    @property
    def transactional_id(self) -> str:
        """One for all who act on dead letters: who begins ends the transaction of another."""
        return f"{self.topics.prefix}{self.topics.app_id}-dead-letters"

    def written(self) -> list[tuple[str, int]]:
        """All (topic, partition) in which a transaction on dead letters may write."""
        return [(t, p) for t in (self.commands, self.ledger) for p in range(self.partitions)]
