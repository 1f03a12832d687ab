"""Faust's tables as a view of what the lanes hold: readable everywhere, written by lanes only."""

from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import Any

import faust
from faust.stores.base import Store

Find = Callable[[], Iterator[Mapping[str, Any]]]
"""The committed rows of the table, one mapping per owned partition."""


class ReadOnly(TypeError):
    """A table was written from outside the lane that owns the row."""


class LaneStore(Store[Any, Any]):
    """Looks rows up in the lanes; nothing is stored twice."""

    def __init__(self, *args: Any, find: Find, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._find = find

    def __getitem__(self, key: Any) -> Any:
        for rows in self._find():
            if key in rows:
                return rows[key]
        raise KeyError(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        raise ReadOnly("rows are changed by commands, through the lane of their partition")

    def __delitem__(self, key: Any) -> None:
        raise ReadOnly("rows are changed by commands, through the lane of their partition")

    def __iter__(self) -> Iterator[Any]:
        for rows in self._find():
            yield from rows

    def __len__(self) -> int:
        return sum(len(rows) for rows in self._find())

    def __contains__(self, key: object) -> bool:
        return any(key in rows for rows in self._find())

    def keys(self) -> KeysView[Any]:
        """The keys of all rows owned here."""
        return KeysView(self)

    def values(self) -> ValuesView[Any]:
        """All rows owned here."""
        return ValuesView(self)

    def items(self) -> ItemsView[Any, Any]:
        """Keys and rows owned here."""
        return ItemsView(self)

    def apply_changelog_batch(self, *args: Any, **kwargs: Any) -> None:
        """Never called: the lanes restore themselves."""
        raise ReadOnly("changelogs are read by the lanes")

    def persisted_offset(self, tp: Any) -> int | None:
        """Nothing is kept on this machine."""
        return None

    async def backup_partition(self, *args: Any, **kwargs: Any) -> None:
        """Nothing is kept on this machine."""

    def restore_backup(self, *args: Any, **kwargs: Any) -> None:
        """Nothing is kept on this machine."""

    def reset_state(self) -> None:
        """Nothing is kept on this machine."""


def lane_table(
    app: faust.App, name: str, *, changelog: str, partitions: int, find: Find
) -> "faust.Table[Any, Any]":
    """A Faust table over the lanes, so that Faust assigns, routes and shows it as any other."""

    class LaneTable(faust.Table[Any, Any]):
        def _new_store(self) -> LaneStore:
            return LaneStore("memory://", self.app, self, find=find)

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
    return table
