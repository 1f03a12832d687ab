"""How many dead letters are open, by topic and reason, as the log has it."""

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Mapping

import msgspec
from aiokafka.errors import KafkaError

from billing_stream.errors import BillingError
from billing_stream.ops.dead_letters.dead_letter_reader import read
from billing_stream.ops.dead_letters.desk_connection import Cluster
from billing_stream.ops.dead_letters.entries import letter_of
from billing_stream.processor import NOT_UNDERSTOOD
from billing_stream.records import topics as names
from billing_stream.records.dead_letters import NO_ROOM, DeadLetter, decode_action
from billing_stream.records.http_dead_letters import PLACE
from billing_stream.records.record_ref import RecordRef
from billing_stream.tables.charges import UNCLAIMED

logger = logging.getLogger(__name__)

LOOK_SECONDS = 10.0
ASK_SECONDS = 120.0
# Codes of reasons are few; whoever else writes to the topic may choose others.
KINDS_MAX = 200
OTHER = "other"

_CODE = re.compile(r"([A-Z][A-Z_]{2,39}): ")


class OpenDeadLetters:
    """The open dead letters of an app: a letter is open until it is redriven or discarded.

    `look` reads on from where the last look ended. Memory grows with the open letters alone.
    `counts` stays None until a first look has read both topics to their ends.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._read_to: dict[str, dict[int, int]] = {cluster.letters: {}, cluster.ledger: {}}
        self._open: dict[tuple[int, int], tuple[str, str]] = {}
        # Letters that were closed before this reader came to them.
        self._closed: set[tuple[int, int]] = set()
        # A kind that has no open letters any more counts 0, so that its gauge says so.
        self._kinds: set[tuple[str, str]] = set()
        self.counts: Mapping[tuple[str, str], int] | None = None

    async def watch(self) -> None:
        """Look from time to time, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(ASK_SECONDS):
                    await self.look()
            except (KafkaError, BillingError, OSError) as error:
                # Also TimeoutError. The figures stay; the watchdog reports Kafka.
                logger.debug("dead letters were not counted: %r", error)
            except Exception:
                # A gauge is no reason to end a worker.
                logger.exception("dead letters were not counted")
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> Mapping[tuple[str, str], int]:
        """Open letters by input topic (without its prefix) and reason, at this moment.

        Raises DeadLettersError, KafkaError.
        """
        cluster = self._cluster
        since = self._read_to[cluster.letters]
        async for records in read(cluster, cluster.letters, since=since):
            for record in records:
                since[record.partition] = record.offset + 1
                self._add(record)
            await asyncio.sleep(0)
        since = self._read_to[cluster.ledger]
        async for records in read(cluster, cluster.ledger, since=since):
            for record in records:
                since[record.partition] = record.offset + 1
                self._close(record.value)
            await asyncio.sleep(0)
        found = Counter(self._open.values())
        self.counts = {kind: found[kind] for kind in self._kinds}
        return self.counts

    def _add(self, record: object) -> None:
        letter = letter_of(record)
        at = letter.partition, letter.offset
        if at in self._closed:
            self._closed.discard(at)
            return
        kind = topic_of(letter.record, self._cluster), reason_code(letter.record.reason)
        if kind not in self._kinds and len(self._kinds) >= KINDS_MAX:
            kind = OTHER, OTHER
        self._kinds.add(kind)
        self._open[at] = kind

    def _close(self, value: bytes | None) -> None:
        try:
            _, partition, offset = RecordRef.parse(decode_action(value or b"").letter)
        except (msgspec.DecodeError, ValueError):
            # `billing-stream dlq` reports it.
            return
        at = partition, offset
        read_to = self._read_to[self._cluster.letters].get(partition, 0)
        if self._open.pop(at, None) is None and offset >= read_to:
            self._closed.add(at)


def topic_of(letter: DeadLetter, cluster: Cluster) -> str:
    """The input topic of its record, without prefix; `http:PLATFORM` of a webhook over HTTP."""
    topic = cluster.topics.base(letter.topic)
    return topic if topic in names.INPUTS or topic.startswith(PLACE) else OTHER


def reason_code(reason: str) -> str:
    """The code of a reason, as `billing_dead_letters_total` has it.

    >>> reason_code("CHARGE_TAKEN: purchase 1 has it"), reason_code("`charge_id` is missing")
    ('CHARGE_TAKEN', 'NOT_UNDERSTOOD')
    """
    code = _CODE.match(reason)
    if code is not None:
        return code[1]
    if reason.startswith("no purchase claimed the charge"):
        return NO_ROOM if reason.endswith(f"({NO_ROOM})") else UNCLAIMED
    return NOT_UNDERSTOOD
