"""Versions of the catalogue, according to the log, and under which one a purchase was opened.

Written from the contract: partition 0 decides a version, which is a record of
`billing.catalogue.v1`, and notifies each other partition by a command of its own. A partition knows
it from the place of that command on; in force is the one that became effective last.
"""

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from billing_stream.audit.verify.log_records import Record, micros, micros_of
from billing_stream.audit.verify.model_state import Catalogue, Terms
from billing_stream.audit.verify.odd_json import InvalidInput
from billing_stream.audit.verify.verify_report import Report
from billing_stream.audit.written_order import Place, WrittenOrder
from billing_stream.records.record_ref import RecordRef

COMMANDS = ("set_catalogue", "adopt_catalogue")
_Moment = Annotated[datetime, Meta(tz=True)]
Packs = Mapping[str, tuple[int, Mapping[str, Decimal]]]


class Version(NamedTuple):
    """One version; `effective` in microseconds, `command` the record that asked for it."""

    number: int
    effective: int
    packs: Packs
    command: str
    ref: RecordRef


Known = tuple[Version, ...]


class _Pack(Struct, forbid_unknown_fields=True):
    credits: int
    price: dict[str, str]
    title: str | UnsetType = UNSET


class _Set(Struct):
    packs: dict[str, _Pack]
    by: str
    reason: str
    effective_at: _Moment | None = None


class _Decided(Struct):
    credits: int
    prices: dict[str, str]
    title: str


class _Version(Struct):
    record: str
    version: int
    effective_at: _Moment
    packs: dict[str, _Decided]
    set_at: _Moment
    by: str
    reason: str
    command: str


class _Adopt(Struct):
    set: _Version


def require_command(name: str, data: Mapping[str, Any]) -> Any:
    """The command of an operator about the catalogue. Raises InvalidInput."""
    try:
        if name == "set_catalogue":
            asked = msgspec.convert(data, _Set)
            texts = asked.by, asked.reason
            if not all(0 < len(text) <= 255 for text in texts):
                raise InvalidInput("by or reason is not a text of 1 to 255 characters")
            return asked
        return msgspec.convert(data, _Adopt)
    except msgspec.ValidationError as error:
        raise InvalidInput(str(error)) from None


@dataclass
class CatalogueFacts:
    """What was read of the catalogue: its versions by number, and commands by reference.

    `adopted` are, of each partition, versions made known to it, with offset and
    time of the command.
    """

    versions: dict[int, Version] = field(default_factory=dict)
    twice: list[Version] = field(default_factory=list)
    asked: dict[RecordRef, _Set] = field(default_factory=dict)
    adopted: dict[int, list[tuple[int, int, _Version]]] = field(default_factory=dict)

    def take(self, record: Record) -> None:
        """A record of `billing.catalogue.v1`. Raises KeyError, ValueError or TypeError."""
        value = msgspec.json.decode(record.value or b"")
        if value["record"] != "catalogue_version":
            return
        version = Version(
            value["version"],
            micros(value["effective_at"]),
            _exact({name: (p["credits"], p["prices"]) for name, p in value["packs"].items()}),
            value["command"],
            RecordRef.of(record),
        )
        if self.versions.setdefault(version.number, version) is not version:
            self.twice.append(version)

    def take_command(self, command: Any, record: Record) -> None:
        """A command of an operator that is not about an input, or one of the lane of 0."""
        if isinstance(command, _Set):
            self.asked[RecordRef.of(record)] = command
        elif isinstance(command, _Adopt):
            found = self.adopted.setdefault(record.partition, [])
            found.append((record.offset, record.timestamp * 1000, command.set))


def known_from(
    facts: CatalogueFacts,
    partition: int,
    topic: str,
    order: WrittenOrder,
    dead: Container[RecordRef],
) -> list[tuple[Place, Version]]:
    """The versions that a partition knows, each with the place from which on.

    `topic` is that of the commands, `dead` are records that are dead letters.
    """
    found: list[tuple[int, int, Version]] = []
    for version in facts.versions.values() if partition == 0 else ():
        ref = RecordRef.parse_or_none(version.command)
        if ref is not None:
            found.append((ref.offset, 0, version))
    for offset, at, said in facts.adopted.get(partition, ()):
        if said.version in facts.versions and RecordRef(topic, partition, offset) not in dead:
            found.append((offset, at, facts.versions[said.version]))
    found.sort(key=lambda one: one[0])
    places = order.places(topic, ((offset, at) for offset, at, _ in found))
    return [(place, version) for place, (_, _, version) in zip(places, found, strict=True)]


def sold(
    pack: str, currency: str | None, known: Known, catalogue: Catalogue, now: int
) -> tuple[Version | None, Terms | None]:
    """The version in force at `now`, if there is one, and the terms of a pack under it."""
    begun = [version for version in known if version.effective <= now]
    if not begun:
        return None, None
    version = max(begun, key=lambda one: (one.effective, one.number))
    credits, prices = version.packs.get(pack, (0, {}))
    code = currency or catalogue.currency
    amount = prices.get(code)
    terms = None if amount is None else Terms(credits, f"{amount:f}", code, version.number)
    return version, terms


def check_catalogue(
    facts: CatalogueFacts, report: Report, dead: Container[RecordRef], *, whole: bool
) -> None:
    """Each version was asked for once, and is the same in each partition.

    `whole`: everything was read, so a record that is missing is a fault.
    """
    report.count("catalogue", len(facts.versions))
    for version in facts.twice:
        report.fault("catalogue", f"version {version.number} is there twice", version.ref)
    for number, version in enumerate(sorted(facts.versions.values()), 1):
        if version.number != number:
            what = f"version {version.number} is where version {number} is due"
            report.fault("catalogue", what, version.ref)
            break
    made = {RecordRef.parse_or_none(version.command) for version in facts.versions.values()}
    for version in facts.versions.values():
        for what in _objections(version, facts, dead, whole=whole):
            report.fault("catalogue", what, version.ref)
    for ref in facts.asked:
        if whole and ref not in dead and ref not in made:
            report.fault("catalogue", "asks for a version, and none was decided", ref)


def _objections(
    version: Version, facts: CatalogueFacts, dead: Container[RecordRef], *, whole: bool
) -> Iterator[str]:
    for partition, adopted in facts.adopted.items():
        for _, _, said in adopted:
            packs = _exact({name: (p.credits, p.prices) for name, p in said.packs.items()})
            same = (packs, micros_of(said.effective_at)) == (version.packs, version.effective)
            if said.version == version.number and not same:
                yield f"partition {partition} got another version {version.number}"
    ref = RecordRef.parse_or_none(version.command)
    asked = facts.asked.get(ref) if ref is not None else None
    if asked is None or ref in dead:
        if whole:
            yield f"version {version.number}: {version.command} did not ask for it"
        return
    wanted = _exact({name: (p.credits, p.price) for name, p in asked.packs.items()})
    if wanted != version.packs:
        yield f"version {version.number} has other packs than {version.command} asked for"
    if asked.effective_at is not None and micros_of(asked.effective_at) != version.effective:
        yield f"version {version.number} is effective at another time than was asked for"


def _exact(packs: Mapping[str, tuple[int, Mapping[str, str]]]) -> Packs:
    return {
        name: (credits, {code: Decimal(amount) for code, amount in prices.items()})
        for name, (credits, prices) in packs.items()
    }
