"""Versions of the catalogue: how the lane of partition 0 decides one, and how others know it.

What a partition knows is in its own rows, and changes by records of its own input only: a decision
never depends on when a lane has read a topic of others.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from billing_stream.config.catalogue_file import CatalogueError, packs_of
from billing_stream.domain.catalogue import CatalogueVersion, Versions
from billing_stream.domain.policy import PACKS, Policy
from billing_stream.domain.purchases import in_force
from billing_stream.engine.input_commands import WRONG_PARTITION
from billing_stream.engine.log import MARK_PREFIX
from billing_stream.engine.partition_processor import Outgoing
from billing_stream.records import topics
from billing_stream.records.catalogue_records import PARTITION, VERSION_KEY, SetVersion
from billing_stream.records.operator_commands import AdoptCatalogue, CatalogueCommand, SetCatalogue
from billing_stream.records.record_ref import RecordRef
from billing_stream.records.schemas import InputRecord, encode
from billing_stream.records.timestamps import instant, utc_now
from billing_stream.records.topics import Topics
from billing_stream.records.upcasting.versions import WRITTEN

# That a partition knows; and of these, those that are not yet in force.
VERSIONS_MAX = 100
SCHEDULED_MAX = 50
# Codes of dead letters.
INVALID_CATALOGUE = "INVALID_CATALOGUE"
EFFECTIVE_TIME_PASSED = "EFFECTIVE_TIME_PASSED"
TOO_MANY_SCHEDULED = "TOO_MANY_SCHEDULED"
VERSION_KNOWN = "VERSION_KNOWN"


# Begins the marks of versions; no dead letter has a name that does.
MARK = b"catalogue/"
OTHER_PACKS = (
    "the packs of the settings are not those in force: version %s of the catalogue decides. Set "
    "others with `set_catalogue`, and remove the packs from the settings (docs/catalogue.md)"
)

logger = logging.getLogger(__name__)
_decode = msgspec.json.Decoder(SetVersion).decode


class WithVersions(Protocol):
    """Rows that have the versions that a partition knows."""

    versions: Versions


class Place(Protocol):
    """A partition among how many, its policy, and what its topics are called."""

    partition: int
    partitions: int
    names: Topics
    policy: Policy


class CatalogueRefused(Exception):
    """A command about the catalogue that is not carried out: a dead letter with this code."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


def take(
    command: CatalogueCommand,
    record: InputRecord,
    rows: WithVersions,
    place: Place,
    out: list[Outgoing],
    divert: Callable[[InputRecord, str, str], None],
) -> bool:
    """Make a version known in the rows, and write that; False: the command became a dead letter.

    Written are a mark in the partition's changelog; and, where the version is decided here, the
    version itself and one command for each other lane.
    """
    try:
        out += _taken(command, record, rows, place)
    except CatalogueRefused as error:
        divert(record, error.code, str(error))
        return False
    return True


def _taken(
    command: CatalogueCommand, record: InputRecord, rows: WithVersions, place: Place
) -> list[Outgoing]:
    version = version_of(
        command, record, rows.versions, partition=place.partition, currency=place.policy.currency
    )
    rows.versions, gone = with_version(rows.versions, version.known)
    topic = place.names.changelog(topics.BILLING_RECORDS)
    mark = MARK_PREFIX + MARK
    found = [Outgoing(topic, mark + b"%d" % version.version, encode(version), WRITTEN)]
    found += [Outgoing(topic, mark + b"%d" % number, None, WRITTEN) for number in gone]
    if isinstance(command, SetCatalogue):
        key, name = VERSION_KEY.encode(), place.names.name
        catalogue, others = name(topics.CATALOGUE), range(1, place.partitions)
        found.append(Outgoing(catalogue, key, encode(version), partition=PARTITION))
        to, value = name(topics.OPERATOR_COMMANDS), encode(AdoptCatalogue(version))
        found += [Outgoing(to, key, value, partition=partition) for partition in others]
    return found


def restore(rows: WithVersions, key: bytes, value: bytes | None) -> bool:
    """Take a mark from the changelog; False: it is not that of a version.

    Without a value the version is known no longer.
    """
    if not key.startswith(MARK):
        return False
    number = int(key[len(MARK) :])
    rows.versions = tuple(one for one in rows.versions if one.version != number)
    if value is not None:
        rows.versions += (_decode(value).known,)
    return True


def warn_of_other_packs(rows: WithVersions, place: Place) -> None:
    """Warn, once for all lanes, where packs were set by settings that are not those in force."""
    version = in_force(rows.versions, utc_now())
    if place.partition != PARTITION or version is None:
        return
    if place.policy.packs not in (PACKS, version.packs):
        logger.warning(OTHER_PACKS, version.version)


def version_of(
    command: CatalogueCommand,
    record: InputRecord,
    versions: Versions,
    *,
    partition: int,
    currency: str,
) -> SetVersion:
    """The version that partition `partition` is to know by this record. Raises CatalogueRefused.

    `versions` are those it knows, `currency` is that of purchases that name none.
    """
    is_set = isinstance(command, SetCatalogue)
    if record.partition != partition or is_set != (partition == PARTITION):
        where = f"only partition {PARTITION} decides it" if is_set else "it decides versions itself"
        raise CatalogueRefused(WRONG_PARTITION, f"partition {record.partition}: {where}")
    last = max((one.version for one in versions), default=0)
    if isinstance(command, SetCatalogue):
        return _decided(command, record, versions, last + 1, currency)
    if command.set.version <= last:
        raise CatalogueRefused(VERSION_KNOWN, f"version {last} is known already")
    return command.set


def _decided(
    command: SetCatalogue, record: InputRecord, versions: Versions, version: int, currency: str
) -> SetVersion:
    now = instant(record.timestamp)
    effective_at = command.effective_at or now
    if effective_at < now:
        raise CatalogueRefused(
            EFFECTIVE_TIME_PASSED, f"{effective_at.isoformat()} was before {now.isoformat()}"
        )
    if sum(1 for one in versions if one.effective_at > now) >= SCHEDULED_MAX:
        raise CatalogueRefused(TOO_MANY_SCHEDULED, f"{SCHEDULED_MAX} versions are not yet in force")
    try:
        packs = packs_of({"packs": msgspec.to_builtins(command.packs)}, currency)
    except CatalogueError as error:
        raise CatalogueRefused(INVALID_CATALOGUE, "; ".join(str(error).splitlines())) from None
    return SetVersion(
        version=version,
        effective_at=effective_at,
        packs=packs,
        set_at=now,
        by=command.by,
        reason=command.reason,
        command=str(RecordRef.of(record)),
    )


def with_version(versions: Versions, one: CatalogueVersion) -> tuple[Versions, Sequence[int]]:
    """The versions with one more, and the numbers of those that are known no longer.

    Those that became effective first go, when there are too many.
    """
    known = (*versions, one)
    first = sorted(known, key=lambda each: (each.effective_at, each.version))
    gone = [each.version for each in first[: max(0, len(known) - VERSIONS_MAX)]]
    return tuple(each for each in known if each.version not in gone), gone
