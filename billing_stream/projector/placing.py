"""Where each partition is read on: where the database stands, unless the log says otherwise."""

import asyncio
import logging
import time
from collections.abc import Collection
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from billing_stream.projector import gaps, positions
from billing_stream.projector.changelog_reader import Reader
from billing_stream.projector.gaps import Gap
from billing_stream.projector.projector_errors import PositionsMoved

logger = logging.getLogger(__name__)

CHECK_SECONDS = 2.0
# How often the last record of each partition is read once more, to see that it is the same.
COMPARE_SECONDS = 300.0
# How often it is stored that all is projected: what the dashboard's lists are "as of".
COMPLETE_SECONDS = 5.0
KAFKA_SECONDS_MAX = 5.0


class Placing:
    """Places partitions, with nothing in flight; knows those that may not be read."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._checked = 0.0
        self._compared = time.monotonic()
        self._completed = 0.0
        # Of this projector: stopped until an operator accepts it.
        self.stopped: dict[TopicPartition, Gap] = {}

    def missing(self) -> set[TopicPartition]:
        """Partitions of this projector that are neither read nor stopped."""
        return self._reader.unpositioned() - self.stopped.keys()

    async def keep(self, connection: Any) -> bool:
        """Place what is new, and see from time to time that the rest stands as we think.

        It does not when a rebuild was swapped in, and may not when partitions wandered. Whether
        it was time to look; raises asyncpg's errors, and KafkaError unless it is one to wait for.
        """
        reader = self._reader
        if reader.replaced:
            await self._stop_replaced(connection)
        due = time.monotonic() - self._checked > CHECK_SECONDS
        if due:
            self._checked = time.monotonic()
            await self._check(connection)
        self.stopped = {tp: gap for tp, gap in self.stopped.items() if tp in reader.assigned()}
        new = reader.unpositioned() if due else self.missing()
        if new:
            await self._place(connection, new)
        return due

    async def _check(self, connection: Any) -> None:
        reader = self._reader
        if time.monotonic() - self._compared > COMPARE_SECONDS:
            self._compared = time.monotonic()
            reader.reset_positions(reader.caught_up())
        # A position behind markers is stored, or a log that is trimmed there would seem a gap.
        passed = reader.behind_markers()
        if passed:
            reader.move(await positions.pass_markers(connection, passed))
        if reader.complete and time.monotonic() - self._completed > COMPLETE_SECONDS:
            self._completed = time.monotonic()
            complete, reader.complete = reader.complete, {}
            await positions.note_complete(connection, complete, min(complete.values()))
        known = {tp: reader.stored[tp] for tp in reader.placed}
        found = await positions.load(connection, known)
        reader.reset_positions(tp for tp in known if found.get(tp) != known[tp])

    async def _stop_replaced(self, connection: Any) -> None:
        reader = self._reader
        found = await positions.load(connection, reader.replaced)
        for tp, offset in list(reader.replaced.items()):
            if tp in found and offset < found[tp]:
                await self._stop(connection, Gap.of(tp, gaps.REPLACED, offset, found[tp]))
            del reader.replaced[tp]

    async def _stop(self, connection: Any, gap: Gap) -> None:
        await gaps.stop(connection, gap)
        self.stopped[gap.tp] = gap
        logger.error(
            "%s. Rebuild the projection (billing-stream projector rebuild), or read its log from "
            "the beginning (billing-stream projector accept %s --because ...)",
            gap,
            gap.ref,
        )

    async def _place(self, connection: Any, new: Collection[TopicPartition]) -> None:
        reader = self._reader
        await positions.add(connection, new)
        found = await positions.load(connection, new)
        last = await positions.load_last(connection, new)
        stops = await gaps.stops(connection, new)
        try:
            async with asyncio.timeout(KAFKA_SECONDS_MAX):
                begins, ends = await reader.begins(found), await reader.ends(found)
        except (KafkaError, TimeoutError) as error:
            if isinstance(error, KafkaError) and not error.retriable:
                raise
            # Brokers or a topic are away: what is placed is read on.
            logger.debug("%s partitions cannot be placed: %r", len(found), error)
            return
        places = {}
        for tp, offset in found.items():
            stop = stops.get(tp)
            try:
                if stop is not None and stop.accepted_at is None:
                    self.stopped[tp] = stop
                    continue
                if stop is not None:
                    await gaps.resume(connection, stop, offset, begins[tp])
                    logger.warning("%s[%s] is read again from %s", *tp, begins[tp])
                    places[tp] = begins[tp]
                    last.pop(tp, None)
                elif offset > ends[tp]:
                    await self._stop(connection, Gap.of(tp, gaps.REPLACED, ends[tp], offset))
                    continue
                elif offset < begins[tp]:
                    gap = Gap.of(tp, gaps.TRIMMED, offset, begins[tp])
                    await gaps.pass_over(connection, gap)
                    logger.error(
                        "%s: the projection lacks them (see `billing-stream docs projection`)", gap
                    )
                    places[tp] = begins[tp]
                else:
                    places[tp] = offset
            except PositionsMoved:
                # Another projector was here first: looked at again.
                continue
            self.stopped.pop(tp, None)
        kept = {
            tp: one
            for tp, one in last.items()
            # Another projector may have written between the two queries.
            if tp in places and begins[tp] <= one.offset < places[tp]
        }
        reader.seek(places, kept)
