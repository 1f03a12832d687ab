"""Versions of the catalogue: how the lane of partition 0 decides one, and how others know it.

What a partition knows is in its own rows, and changes by records of its own input only: a decision
never depends on when a lane has read a topic of others.
"""

import logging
from collections.abc import Sequence
from datetime import UTC

import msgspec

from billing_stream.config.catalogue_file import CatalogueError, packs_of
from billing_stream.domain.catalogue import Versions
from billing_stream.domain.policy import PACKS, Policy
from billing_stream.domain.purchases import in_force
from billing_stream.engine.input_commands import WRONG_PARTITION
from billing_stream.engine.log import MARK_PREFIX
from billing_stream.engine.partition_processor import Outgoing
from billing_stream.records import topics
from billing_stream.records.catalogue_records import PARTITION, VERSION_KEY, SetVersion
from billing_stream.records.dead_letters import AddLetter, dead_letter
from billing_stream.records.operator_commands import AdoptCatalogue, CatalogueCommand, SetCatalogue
from billing_stream.records.record_ref import RecordRef
from billing_stream.records.schemas import InputRecord, encode
from billing_stream.records.timestamps import instant, utc_now
from billing_stream.records.topics import Topics
from billing_stream.records.upcasting.versions import WRITTEN
from billing_stream.tables.rows import PartitionRows, StagedRows

# That a partition knows; and of these, those that are not yet in force.
VERSIONS_MAX = 100
SCHEDULED_MAX = 50
# Codes of dead letters.
INVALID_CATALOGUE = "INVALID_CATALOGUE"
EFFECTIVE_TIME_PASSED = "EFFECTIVE_TIME_PASSED"
TOO_MANY_SCHEDULED = "TOO_MANY_SCHEDULED"
VERSION_KNOWN = "VERSION_KNOWN"
KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"

# Begins the marks of versions; no dead letter has a name that does.
MARK = b"catalogue/"
OTHER_PACKS = (
    "the packs of the settings are not those in force: version %s of the catalogue decides. Set "
    "others with `set_catalogue`, and remove the packs from the settings "
    "(`billing-stream docs catalogue`)"
)

logger = logging.getLogger(__name__)
_decode = msgspec.json.Decoder(SetVersion).decode


class CatalogueRefused(Exception):
    """A command about the catalogue that is not carried out: a dead letter with this code."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


class Catalogue:
    """The catalogue as the lane of one partition decides it, or learns of it."""

    def __init__(
        self, partition: int, partitions: int, names: Topics, policy: Policy, max_record_bytes: int
    ) -> None:
        self._partition = partition
        self._max_record_bytes = max_record_bytes
        self._others = range(1, partitions)
        self._policy = policy
        self._changelog = names.changelog(topics.BILLING_RECORDS)
        self._catalogue = names.name(topics.CATALOGUE)
        self._commands = names.name(topics.OPERATOR_COMMANDS)

    def take(
        self,
        command: CatalogueCommand,
        record: InputRecord,
        rows: StagedRows,
        out: list[Outgoing],
        add_letter: AddLetter,
    ) -> bool:
        """Make a version known in the rows, and write that; False: the command is a dead letter.

        Written are a mark in the partition's changelog; and, where the version is decided here, the
        version itself and one command for each other lane. A repetition of a command, by its
        idempotency key, writes nothing.
        """
        try:
            version = self._version(command, record, rows.versions)
        except CatalogueRefused as error:
            add_letter(dead_letter(record, str(error)), error.code)
            return False
        if version is not None:
            out += self._known(version, rows)
            out += self._decided(version) if isinstance(command, SetCatalogue) else ()
        return True

    def restore(self, rows: PartitionRows, key: bytes, value: bytes | None) -> bool:
        """Take a mark from the changelog; False: it is not that of a version.

        Without a value the version is known no longer.
        """
        if not key.startswith(MARK):
            return False
        number = int(key[len(MARK) :])
        rows.versions = tuple(one for one in rows.versions if one.version != number)
        if value is not None:
            rows.versions += (_decode(value),)
        return True

    def warn_of_other_packs(self, rows: PartitionRows) -> None:
        """Warn, once for all lanes, where settings have other packs than those in force."""
        version = in_force(rows.versions, utc_now())
        if self._partition != PARTITION or version is None:
            return
        if self._policy.packs not in (PACKS, version.packs):
            logger.warning(OTHER_PACKS, version.version)

    def _version(
        self, command: CatalogueCommand, record: InputRecord, versions: Versions
    ) -> SetVersion | None:
        """The version that the partition is to know by this record; None: it knows it.

        Raises CatalogueRefused.
        """
        is_set = isinstance(command, SetCatalogue)
        if record.partition != self._partition or is_set != (self._partition == PARTITION):
            where = f"only partition {PARTITION} decides it"
            where = where if is_set else "it decides versions itself"
            raise CatalogueRefused(WRONG_PARTITION, f"partition {record.partition}: {where}")
        last = max((one.version for one in versions), default=0)
        if isinstance(command, SetCatalogue):
            version = version_of(command, record, versions, last + 1, self._policy.currency)
            # What the other lanes get is longer than what was asked.
            size = 0 if version is None else len(encode(AdoptCatalogue(version)))
            if size > self._max_record_bytes:
                text = f"the version has {size} bytes, more than {self._max_record_bytes}"
                raise CatalogueRefused(INVALID_CATALOGUE, text)
            return version
        if command.set.version <= last:
            raise CatalogueRefused(VERSION_KNOWN, f"version {last} is known already")
        return command.set

    def _known(self, version: SetVersion, rows: StagedRows) -> list[Outgoing]:
        rows.versions, gone = with_version(rows.versions, version)
        mark = MARK_PREFIX + MARK
        found = [
            Outgoing(self._changelog, mark + b"%d" % version.version, encode(version), WRITTEN)
        ]
        return found + [
            Outgoing(self._changelog, mark + b"%d" % number, None, WRITTEN) for number in gone
        ]

    def _decided(self, version: SetVersion) -> list[Outgoing]:
        key, value = VERSION_KEY.encode(), encode(AdoptCatalogue(version))
        found = [Outgoing(self._catalogue, key, encode(version), partition=PARTITION)]
        others = self._others
        return found + [Outgoing(self._commands, key, value, partition=other) for other in others]


def version_of(
    command: SetCatalogue, record: InputRecord, versions: Versions, number: int, currency: str
) -> SetVersion | None:
    """The version that the command makes; None where its key has made one of `versions`.

    `currency` is that of purchases that name none. Raises CatalogueRefused.
    """
    now = instant(record.timestamp)
    try:
        packs = packs_of({"packs": msgspec.to_builtins(command.packs)}, currency)
        effective_at = (command.effective_at or now).astimezone(UTC)
    except CatalogueError as error:
        raise CatalogueRefused(INVALID_CATALOGUE, "; ".join(str(error).splitlines())) from None
    except OverflowError:
        raise CatalogueRefused(INVALID_CATALOGUE, "effective_at is beyond all time") from None
    version = SetVersion(
        version=number,
        effective_at=effective_at,
        packs=packs,
        set_at=now,
        by=command.by,
        reason=command.reason,
        command=str(RecordRef.of(record)),
        idempotency_key=command.idempotency_key,
    )
    if _is_repeated(command, version, versions):
        return None
    if version.effective_at < now:
        raise CatalogueRefused(
            EFFECTIVE_TIME_PASSED,
            f"{version.effective_at.isoformat()} was before {now.isoformat()}",
        )
    if sum(1 for one in versions if one.effective_at > now) >= SCHEDULED_MAX:
        raise CatalogueRefused(TOO_MANY_SCHEDULED, f"{SCHEDULED_MAX} versions are not yet in force")
    return version


def _is_repeated(command: SetCatalogue, version: SetVersion, versions: Versions) -> bool:
    """Whether its key has made a known version. Raises CatalogueRefused for another one."""
    key = command.idempotency_key
    for one in versions if key is not None else ():
        if not isinstance(one, SetVersion) or one.idempotency_key != key:
            continue
        # One without a time was in force at once, and is so when it is repeated.
        at = one.effective_at if one.effective_at == one.set_at else None
        same_time = (command.effective_at or at) == one.effective_at
        if not same_time or (one.packs, one.reason) != (version.packs, version.reason):
            raise CatalogueRefused(
                KEY_REUSED, f"version {one.version} was set with this key and other parameters"
            )
        return True
    return False


def with_version(versions: Versions, one: SetVersion) -> tuple[Versions, Sequence[int]]:
    """The versions with one more, and the numbers of those that are known no longer.

    Those that became effective first go, when there are too many.
    """
    known = (*versions, one)
    first = sorted(known, key=lambda each: (each.effective_at, each.version))
    gone = [each.version for each in first[: max(0, len(known) - VERSIONS_MAX)]]
    return tuple(each for each in known if each.version not in gone), gone
