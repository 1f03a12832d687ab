"""What must come of commands that set the catalogue, by the rules alone."""

from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from billing_stream.audit.verify.catalogue_versions import Known, Version
from billing_stream.audit.verify.log_records import micros
from billing_stream.records import topics as names
from billing_stream.records.operator_commands import SetCatalogue
from billing_stream.records.record_ref import RecordRef
from billing_stream.records.timestamps import instant
from tests.simulation.sim_log import Entry


class ExpectedCatalogue:
    """The versions that each partition knows, as the audit goes through the log."""

    def __init__(self, partitions: int) -> None:
        self._known: dict[int, Known] = dict.fromkeys(range(partitions), ())
        self._decided: list[dict[str, Any]] = []

    def known(self, partition: int) -> Known:
        """In the order in which the partition learned of them."""
        return self._known[partition]

    def take(self, entry: Entry, partition: int) -> list[Any]:
        """What must be written of a command, which the lane of a partition takes."""
        tp = str(RecordRef(entry.topic, entry.partition, entry.offset))
        if entry.txn is not None:
            # The lane of partition 0 wrote it; the audit has seen that it is right.
            number = msgspec.json.decode(entry.value or b"")["set"]["version"]
            self._know(partition, number)
            return []
        asked = entry.meaning.catalogue
        if asked is None:
            return [("dead", tp, "")]
        if partition != 0:
            return [("dead", tp, "WRONG_PARTITION")]
        return self._set(asked, entry, tp)

    def _set(self, asked: SetCatalogue, entry: Entry, tp: str) -> list[Any]:
        if not any("USD" in pack.price for pack in asked.packs.values()):
            return [("dead", tp, "INVALID_CATALOGUE")]
        now = instant(entry.timestamp)
        at, key = asked.effective_at or now, asked.idempotency_key
        packs = {
            name: {"credits": pack.credits, "prices": dict(pack.price), "title": ""}
            for name, pack in asked.packs.items()
        }
        for made in self._decided:
            if key is not None and made.get("idempotency_key") == key:
                wanted = made["set_at"] if asked.effective_at is None else _text(at)
                same = (wanted, packs) == (made["effective_at"], made["packs"])
                return [] if same else [("dead", tp, "IDEMPOTENCY_KEY_REUSED")]
        if at < now:
            return [("dead", tp, "EFFECTIVE_TIME_PASSED")]
        version: dict[str, Any] = {
            "record": "catalogue_version",
            "version": len(self._decided) + 1,
            "effective_at": _text(at),
            "packs": packs,
            "set_at": _text(now),
            "by": asked.by,
            "reason": asked.reason,
            "command": tp,
        }
        version |= {} if key is None else {"idempotency_key": key}
        self._decided.append(version)
        self._know(0, version["version"])
        told = {"command": "adopt_catalogue", "set": version}
        others = [one for one in self._known if one != 0]
        return [
            (names.CATALOGUE, 0, version),
            *((names.OPERATOR_COMMANDS, other, told) for other in others),
        ]

    def _know(self, partition: int, number: int) -> None:
        made = self._decided[number - 1]
        packs = {
            name: (p["credits"], {c: Decimal(a) for c, a in p["prices"].items()}, p["title"])
            for name, p in made["packs"].items()
        }
        at, set_at = micros(made["effective_at"]), micros(made["set_at"])
        ref = RecordRef(names.CATALOGUE, 0, number)
        who = made["by"], made["reason"], made.get("idempotency_key")
        version = Version(number, at, packs, made["command"], ref, set_at, who)
        self._known[partition] += (version,)


def _text(at: datetime) -> str:
    return str(msgspec.to_builtins(at))
