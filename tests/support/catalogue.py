"""The catalogue of the default settings, as the verifier takes it; and commands of operators."""

import json
from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from billing_stream.audit.verify.model_state import Catalogue
from billing_stream.domain.policy import Policy
from billing_stream.engine.partition_processor import Outgoing
from billing_stream.ops.catalogue.catalogue_log import CatalogueLog, SetResult
from billing_stream.records import topics as names
from billing_stream.records.catalogue_records import SetVersion
from billing_stream.records.operator_commands import SetCatalogue
from billing_stream.records.record_ref import RecordRef
from tests.support.partition import Record

if TYPE_CHECKING:
    from tests.support.nodes import Cluster

CATALOGUE = Catalogue.of(Policy())


class OperatorCommands:
    """The topic of operators' commands in memory: a lane takes them when the test lets it."""

    def __init__(self, workers: "Cluster") -> None:
        self._workers = workers
        self._read: dict[int, int] = defaultdict(int)

    def write(self, partition: int, said: Any) -> int:
        """A record that no lane has taken; its offset."""
        value = json.dumps(said, default=datetime.isoformat).encode()
        record = Outgoing(names.OPERATOR_COMMANDS, b"operator", value)
        return self._workers.log.append(names.OPERATOR_COMMANDS, partition, record)

    async def tell(self, *partitions: int) -> None:
        """Let lanes take what waits for them."""
        now = self._workers.nodes[0].now or datetime.now(UTC)
        for partition in partitions:
            found = self._workers.log.topics.get((names.OPERATOR_COMMANDS, partition), [])
            begin = self._read[partition]
            records = [
                Record(
                    names.OPERATOR_COMMANDS,
                    offset,
                    found[offset].value,
                    timestamp=int(now.timestamp() * 1000),
                    partition=partition,
                )
                for offset in range(begin, len(found))
            ]
            if records:
                self._read[partition] = len(found)
                await self._workers.put(partition, names.OPERATOR_COMMANDS, records, begin)


class MemoryCatalogueLog(CatalogueLog):
    """As the log of a real cluster; the lane of partition 0 decides at once."""

    def __init__(self, workers: "Cluster") -> None:
        self._workers = workers

    async def versions(self) -> list[SetVersion]:
        """As they were decided."""
        found = self._workers.log.read(names.CATALOGUE)
        return [msgspec.json.decode(one.value or b"", type=SetVersion) for one in found]

    async def set(self, command: SetCatalogue, **_: Any) -> SetResult:
        """Let the lane decide it."""
        said = msgspec.json.decode(msgspec.json.encode(command))
        offset = self._workers.operators.write(0, said)
        await self._workers.operators.tell(0)
        ref = RecordRef(names.OPERATOR_COMMANDS, 0, offset)
        for record in self._workers.log.read(names.DEAD_LETTERS):
            letter = json.loads(record.value or b"")
            if (letter["topic"], letter["offset"]) == (ref.topic, ref.offset):
                return SetResult(str(ref), rejected=letter["reason"])
        key = command.idempotency_key
        made = [
            v for v in await self.versions() if str(ref) == v.command or key == v.idempotency_key
        ]
        return SetResult(str(ref), made[-1])
