"""Versions of the catalogue in the log: read, and set by a command that a lane decides."""

from collections import deque

import msgspec
from msgspec import Struct

from billing_stream.kafka.committed_log import CommittedLog
from billing_stream.kafka.start_deadline import StartDeadline
from billing_stream.ops.dead_letters.desk_connection import Cluster
from billing_stream.ops.inputs.input_commands import decided
from billing_stream.records.catalogue_records import (
    PARTITION,
    VERSION_KEY,
    CatalogueRecord,
    SetVersion,
)
from billing_stream.records.operator_commands import SetCatalogue
from billing_stream.records.topics import CATALOGUE

# The newest so many. Those that are in force, or will be, are far fewer.
VERSIONS_READ_MAX = 1_000
READ_SECONDS = 10.0

_decode = msgspec.json.Decoder(CatalogueRecord).decode


class SetResult(Struct, frozen=True):
    """What became of a command, and where it is.

    `version` is the one that it made, or that an earlier one made with its key; `rejected` is the
    reason of its dead letter. Without either, no lane decided it in time: it stays in its topic.
    """

    ref: str
    version: SetVersion | None = None
    rejected: str | None = None

    @property
    def repeated(self) -> bool:
        """Whether an earlier command made the version."""
        return self.version is not None and self.version.command != self.ref


class CatalogueLog:
    """The topics in which versions are asked for, and decided."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def versions(self) -> list[SetVersion]:
        """The newest versions, in the order in which they were set. Raises aiokafka's errors."""
        found: deque[SetVersion] = deque(maxlen=VERSIONS_READ_MAX)
        async with CommittedLog(self._cluster.options) as log:
            tps = log.partitions(self._cluster.topics.name(CATALOGUE))
            tps = [tp for tp in tps if tp.partition == PARTITION]
            begins, ends = await log.begins(tps), await log.ends(tps)
            async for records in log.read(begins, ends, seconds_max=READ_SECONDS):
                for record in records:
                    if record.key == VERSION_KEY.encode():
                        value = _decode(record.value or b"")
                        found += [value] if isinstance(value, SetVersion) else []
        return list(found)

    async def set(
        self, command: SetCatalogue, *, seconds_max: float, deadline: StartDeadline
    ) -> SetResult:
        """Write the command, and wait until the lane has decided it. Raises aiokafka's errors."""
        outcome = await decided(
            self._cluster,
            command,
            PARTITION,
            "catalogue",
            seconds_max=seconds_max,
            deadline=deadline,
        )
        if not outcome.decided or outcome.rejected is not None:
            return SetResult(outcome.ref, rejected=outcome.rejected)
        key = command.idempotency_key
        for version in reversed(await self.versions()):
            if version.command == outcome.ref or (key and version.idempotency_key == key):
                return SetResult(outcome.ref, version)
        return SetResult(outcome.ref)
