"""The shops of a simulated world, by the rules alone: who has each, and what each claim writes."""

from datetime import datetime
from typing import Any

import msgspec

from billing_stream.audit.verify.log_records import micros_of
from tests.simulation.sim_log import Entry

Row = dict[str, Any]


class Shops:
    """`rows` are the rows by key, as in the changelog."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self._erased: dict[str, Row] = {}

    def take(self, entry: Entry, ref: str) -> list[Any]:
        """What must come of a record of the topic of shops."""
        said = msgspec.json.decode(entry.value or b"")
        name = f"{said['platform']}:{said['domain']}"
        row = self.rows.get(name) or self._erased.get(name, {})
        after, taken = _after(row, said)
        for rows, kept in ((self.rows, "merchant_id" in after), (self._erased, False)):
            rows.pop(name, None)
            if kept:
                rows[name] = after
        if "merchant_id" not in after and after:
            self._erased[name] = after
        letter = [("dead", ref, "SHOP_TAKEN")] if taken else []
        return letter + _written(after, said)

    def every_row(self) -> list[Row]:
        """Of shops that somebody has, with the key, and of erased ones without."""
        named = [{"key": name, **row} for name, row in self.rows.items()]
        return sorted([*named, *self._erased.values()], key=msgspec.json.encode)


def _after(row: Row, said: Row) -> tuple[Row, bool]:
    """The row after a claim, and whether that claim is a dead letter."""
    at = [moment for moment in (row.get("installed_at"), said.get("installed_at")) if moment]
    newest = {"installed_at": max(at, key=_micros)} if at else {}
    known, told = row.get("platform_shop_id"), said.get("platform_shop_id")
    if row.get("merchant_id") == said["merchant_id"]:
        if said.get("gone"):
            return newest, False
        shop_id = (known or told) if said.get("again") else (told or known)
        left = (row if said.get("again") else said).get("uninstalled", False)
        return _row(said["merchant_id"], shop_id, newest, left=left), False
    if said.get("gone") or said.get("again") or said.get("uninstalled"):
        return row, False
    if "installed_at" in said and _micros(said["installed_at"]) < _micros(newest["installed_at"]):
        return row, False
    if "merchant_id" in row and not row.get("uninstalled") and known and told and known != told:
        return row, True
    return _row(said["merchant_id"], told, newest), False


def _row(merchant: str, shop_id: str | None, newest: Row, *, left: bool = False) -> Row:
    row = {"merchant_id": merchant, **newest}
    row |= {"platform_shop_id": shop_id} if shop_id else {}
    return row | ({"uninstalled": True} if left else {})


def _written(row: Row, said: Row) -> list[Any]:
    """What is written again, so that the last record of a shop is its row."""
    where = {"platform": said["platform"], "domain": said["domain"]}
    if "merchant_id" in row:
        present = {**where, **row, "again": True}
        return [] if {**said, "again": True} == present else [("shop", present)]
    gone = {**where, "merchant_id": said["merchant_id"], "gone": True}
    return [] if said.get("gone") else [("shop", gone)]


def _micros(text: str) -> int:
    return micros_of(datetime.fromisoformat(text))
