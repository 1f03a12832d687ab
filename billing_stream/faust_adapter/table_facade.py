"""Faust tables: declared, so that Faust assigns their changelogs. Lanes hold the rows."""

from typing import Any

import faust
from faust.stores.base import Store

from billing_stream.faust_adapter.faust_app import App


class NoStore(Store[Any, Any]):
    """Keeps nothing: the lanes restore changelogs and hold the rows."""

    def apply_changelog_batch(self, *args: Any, **kwargs: Any) -> None:
        """Raises TypeError: Faust's own recovery never runs."""
        raise TypeError("changelogs are read by the lanes")

    def persisted_offset(self, tp: Any) -> int | None:
        """None: nothing is kept on this machine."""
        return None

    async def backup_partition(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing."""

    def restore_backup(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing."""

    def reset_state(self) -> None:
        """Does nothing."""


class LaneTable(faust.Table[Any, Any]):
    """A table without rows of its own."""

    def _new_store(self) -> NoStore:
        return NoStore("memory://", self.app, self)


def declare_table(app: App, name: str, changelog: str, partitions: int) -> None:
    """Have Faust assign the partitions of this changelog to workers."""
    raw: dict[str, Any] = {"key_serializer": "raw", "value_serializer": "raw"}
    topic = app.topic(
        changelog,
        **raw,
        partitions=partitions,
        compacting=True,
        deleting=False,
        acks=False,
        internal=True,
        allow_empty=True,
    )
    table = LaneTable(
        app,
        name=name,
        partitions=partitions,
        changelog_topic=topic,
        schema=faust.Schema(key_type=bytes, value_type=bytes, **raw),
        beacon=app.tables.beacon,
    )
    app.tables.add(table)
