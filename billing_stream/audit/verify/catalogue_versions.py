"""Versions of the catalogue, according to the log, and under which one a purchase was opened.

Written from the contract: partition 0 decides a version, which is a record of
`billing.catalogue.v1`, and notifies each other partition by a command of its own. A partition knows
it from the place of that command on; in force is the one that became effective last.
"""

import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from billing_stream.audit.verify.log_records import Record, micros_of
from billing_stream.audit.verify.model_state import Catalogue, Terms
from billing_stream.audit.verify.odd_json import InvalidInput
from billing_stream.audit.verify.verify_report import Report
from billing_stream.audit.written_order import Place, WrittenOrder
from billing_stream.records.record_ref import RecordRef

COMMANDS = ("set_catalogue", "adopt_catalogue")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_Moment = Annotated[datetime, Meta(tz=True)]
Packs = Mapping[str, tuple[int, Mapping[str, Decimal], str]]
# For so many versions at least the key of one is remembered.
KEYS_KEPT = 50


class Version(NamedTuple):
    """One version; times in microseconds, `command` the record that asked for it.

    `who` are who set it, why, and the idempotency key.
    """

    number: int
    effective: int
    packs: Packs
    command: str
    ref: RecordRef
    set_at: int
    who: tuple[str, str, str | None]


class Asked(NamedTuple):
    """A command that asks for a version, as `Version`; without `effective`, at once."""

    ref: RecordRef
    at: int
    effective: int | None
    packs: Packs
    who: tuple[str, str, str | None]


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
    idempotency_key: str | None = None


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
    idempotency_key: str | None = None


class _Adopt(Struct):
    set: _Version


def require_command(name: str, data: Mapping[str, Any]) -> Any:
    """The command of an operator about the catalogue. Raises InvalidInput."""
    try:
        if name == "set_catalogue":
            asked = msgspec.convert(data, _Set)
            key = asked.idempotency_key
            if not all(0 < len(text) <= 255 for text in (asked.by, asked.reason, key or "-")):
                raise InvalidInput("by, reason or key is not a text of 1 to 255 characters")
            if key is not None and (not key or _CONTROLS.search(key)):
                raise InvalidInput("the key is not a text of 1 to 255 characters")
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
    asked: dict[RecordRef, Asked] = field(default_factory=dict)
    adopted: dict[int, list[tuple[int, int, _Version]]] = field(default_factory=dict)

    def take(self, record: Record) -> None:
        """A record of `billing.catalogue.v1`. Raises KeyError, ValueError or TypeError."""
        value = msgspec.json.decode(record.value or b"")
        if value["record"] == "catalogue_version":
            self._take(msgspec.convert(value, _Version), RecordRef.of(record))

    def _take(self, said: _Version, ref: RecordRef) -> None:
        version = Version(
            said.version,
            micros_of(said.effective_at),
            _exact({name: (p.credits, p.prices, p.title) for name, p in said.packs.items()}),
            said.command,
            ref,
            micros_of(said.set_at),
            (said.by, said.reason, said.idempotency_key),
        )
        if self.versions.setdefault(version.number, version) is not version:
            self.twice.append(version)

    def take_command(self, command: Any, record: Record) -> None:
        """A command of an operator that is not about an input, or one of the lane of 0."""
        if isinstance(command, _Set):
            at = command.effective_at
            self.asked[RecordRef.of(record)] = Asked(
                RecordRef.of(record),
                record.timestamp * 1000,
                None if at is None else micros_of(at),
                _exact({name: (p.credits, p.price, p.title) for name, p in command.packs.items()}),
                (command.by, command.reason, command.idempotency_key),
            )
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
    credits, prices, _ = version.packs.get(pack, (0, {}, ""))
    code = currency or catalogue.currency
    amount = prices.get(code)
    terms = None if amount is None else Terms(credits, f"{amount:f}", code, version.number)
    return version, terms


def check_catalogue(
    facts: CatalogueFacts,
    report: Report,
    dead: Container[RecordRef],
    others: Mapping[int, str],
    *,
    whole: bool,
) -> None:
    """Each version was asked for once, and is the same in each partition.

    `others` are the partitions that do not decide, each with the topic of its commands. `whole`:
    everything was read, so a record that is missing is a fault.
    """
    report.count("catalogue", len(facts.versions))
    for version in facts.twice:
        report.fault("catalogue", f"version {version.number} is there twice", version.ref)
    by_key: dict[str, Version] = {}
    for number, version in enumerate(sorted(facts.versions.values()), 1):
        if version.number != number:
            what = f"version {version.number} is where version {number} is due"
            report.fault("catalogue", what, version.ref)
            break
        key = version.who[2]
        if key is not None:
            first = by_key.get(key)
            if first is not None and number - first.number < KEYS_KEPT:
                what = f"version {number} has the key of version {first.number}"
                report.fault("catalogue", what, version.ref)
            by_key[key] = version
    made = {RecordRef.parse_or_none(version.command) for version in facts.versions.values()}
    for version in facts.versions.values():
        for what in _objections(version, facts, dead, whole=whole):
            report.fault("catalogue", what, version.ref)
    for asked in facts.asked.values() if whole else ():
        repeats = any(_is_repeated(asked, version) for version in facts.versions.values())
        if asked.ref not in dead and asked.ref not in made and not repeats:
            report.fault("catalogue", "asks for a version, and none was decided", asked.ref)
    for partition, topic in others.items() if whole else ():
        known = {
            said.version
            for offset, _, said in facts.adopted.get(partition, ())
            if RecordRef(topic, partition, offset) not in dead
        }
        for version in facts.versions.values():
            if version.number not in known:
                what = f"partition {partition} did not get version {version.number}"
                report.fault("catalogue", what, version.ref)


def _is_repeated(asked: Asked, version: Version) -> bool:
    """Whether a command repeats, by its key, the one that made a version before."""
    ref = RecordRef.parse_or_none(version.command)
    if ref is None or ref.offset >= asked.ref.offset or asked.who[2] is None:
        return False
    at = version.effective if version.effective == version.set_at else None
    same_time = (at if asked.effective is None else asked.effective) == version.effective
    return same_time and (asked.packs, *asked.who[1:]) == (version.packs, *version.who[1:])


def _objections(
    version: Version, facts: CatalogueFacts, dead: Container[RecordRef], *, whole: bool
) -> Iterator[str]:
    for partition, adopted in facts.adopted.items():
        for _, _, said in adopted:
            packs = _exact({name: (p.credits, p.prices, p.title) for name, p in said.packs.items()})
            same = (packs, micros_of(said.effective_at)) == (version.packs, version.effective)
            if said.version == version.number and not same:
                yield f"partition {partition} got another version {version.number}"
    ref = RecordRef.parse_or_none(version.command)
    asked = facts.asked.get(ref) if ref is not None else None
    if asked is None or ref in dead:
        if whole:
            yield f"version {version.number}: {version.command} did not ask for it"
        return
    if asked.packs != version.packs:
        yield f"version {version.number} has other packs than {version.command} asked for"
    if version.effective != (asked.at if asked.effective is None else asked.effective):
        yield f"version {version.number} is effective at another time than was asked for"
    if version.set_at != asked.at or version.effective < version.set_at:
        yield f"version {version.number} was effective before it was set, or set at another time"
    if version.who != asked.who:
        yield f"version {version.number} was set by another one, or for another reason"


def _exact(packs: Mapping[str, tuple[int, Mapping[str, str], str | UnsetType]]) -> Packs:
    return {
        name: (
            credits,
            {code: Decimal(amount) for code, amount in prices.items()},
            "" if title is UNSET else title.strip(),
        )
        for name, (credits, prices, title) in packs.items()
    }
