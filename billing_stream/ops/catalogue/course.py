"""How versions of the catalogue follow each other: packs on sale, coming versions, changes."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from itertools import zip_longest

from msgspec import UNSET, Struct

from billing_stream.domain.model import Instant
from billing_stream.domain.policy import Pack
from billing_stream.records.catalogue_records import SetVersion
from billing_stream.records.operator_commands import PackAsked


class VersionState(StrEnum):
    """Whether a version is in force. One is replaced when another has its effective time."""

    IN_FORCE = "in force"
    COMING = "coming"
    PAST = "past"
    REPLACED = "replaced"


class Change(StrEnum):
    """What becomes of a pack."""

    NEW = "new"
    CHANGED = "changed"
    RETIRED = "retired"


class PackChange(Struct, frozen=True):
    """A pack that a version changes: `before` is null for a new one, `after` for a retired one."""

    pack: str
    change: Change
    before: PackAsked | None
    after: PackAsked | None


class VersionSet(Struct, frozen=True):
    """A version as it was set: in force from `effective_at`, until another one is."""

    version: int
    effective_at: Instant
    set_at: Instant
    by: str
    reason: str
    packs: dict[str, PackAsked]


class VersionEntry(VersionSet, frozen=True):
    """A version, and what it changes in the one before it.

    `until` is when the next one is in force; null for the last one, and for one that is replaced.
    """

    state: VersionState
    until: Instant | None
    changes: list[PackChange]


class RetiredPack(Struct, frozen=True):
    """A pack that is not sold any more, as it was sold last; `version` has retired it."""

    pack: str
    terms: PackAsked
    version: int


class Source(StrEnum):
    """What decides which packs are on sale: the settings, until a version is in force."""

    SETTINGS = "settings"
    LOG = "log"


class CatalogueNow(Struct, frozen=True):
    """The packs on sale, the version in force, those that come next first, and retired packs."""

    source: Source
    packs: dict[str, PackAsked]
    in_force: VersionEntry | None
    coming: list[VersionEntry]
    retired: list[RetiredPack]


class CatalogueCourse(Struct, frozen=True):
    """The catalogue now, and every version, the newest first."""

    now: CatalogueNow
    versions: list[VersionEntry]

    def before(self, at: datetime | None) -> Mapping[str, PackAsked]:
        """The packs that a version would replace which is effective from `at` on."""
        coming = self.now.coming
        earlier = [one.packs for one in coming if at is not None and one.effective_at < at]
        return earlier[-1] if earlier else self.now.packs


def course_of(
    versions: Sequence[SetVersion], of_settings: Mapping[str, Pack], now: datetime
) -> CatalogueCourse:
    """The course of these versions, which are in the order in which they were set.

    The first one is compared with the packs that the settings have today.
    """
    entries: list[VersionEntry] = []
    before = sold = as_asked(of_settings)
    retired: dict[str, RetiredPack] = {}
    steps = list(_steps(versions))
    ends = [one.effective_at for _, one in steps[1:]]
    for (replaced, one), until in zip_longest(steps, ends):
        state = VersionState.COMING
        if one.effective_at <= now:
            past = until is not None and until <= now
            state = VersionState.PAST if past else VersionState.IN_FORCE
        entries += [_entry(each, VersionState.REPLACED, None, before) for each in replaced]
        entry = _entry(one, state, until, before)
        entries.append(entry)
        if state is not VersionState.COMING:
            for found in entry.changes:
                retired.pop(found.pack, None)
                if found.before is not None and found.after is None:
                    retired[found.pack] = RetiredPack(found.pack, found.before, one.version)
            sold = entry.packs
        before = entry.packs
    in_force = [one for one in entries if one.state is VersionState.IN_FORCE]
    shown = CatalogueNow(
        source=Source.LOG if in_force else Source.SETTINGS,
        packs=sold,
        in_force=next(iter(in_force), None),
        coming=[one for one in entries if one.state is VersionState.COMING],
        retired=list(retired.values()),
    )
    return CatalogueCourse(shown, sorted(entries, key=lambda one: one.version, reverse=True))


def changes(before: Mapping[str, PackAsked], after: Mapping[str, PackAsked]) -> list[PackChange]:
    """Each pack that is new, retired, or sold on other terms."""
    found = []
    for name in dict.fromkeys([*after, *before]):
        old, new = before.get(name), after.get(name)
        if old != new:
            change = (
                Change.NEW if old is None else Change.RETIRED if new is None else Change.CHANGED
            )
            found.append(PackChange(name, change, old, new))
    return found


def as_asked(packs: Mapping[str, Pack]) -> dict[str, PackAsked]:
    """Packs in the form in which an operator sets them."""
    return {
        name: PackAsked(pack.credits, dict(pack.prices), pack.title or UNSET)
        for name, pack in packs.items()
    }


def terms(pack: PackAsked) -> str:
    """What a pack is sold for, in words.

    >>> terms(PackAsked(1000, {"USD": "69.99", "JPY": "9000"}, "Large"))
    '1,000 credits for 69.99 USD, 9000 JPY (Large)'
    """
    prices = ", ".join(f"{amount} {currency}" for currency, amount in pack.price.items())
    title = f" ({pack.title})" if pack.title else ""
    return f"{pack.credits:,} credits for {prices}{title}"


def _steps(versions: Sequence[SetVersion]) -> Iterator[tuple[list[SetVersion], SetVersion]]:
    """By effective time, the version that counts, after those that it replaces."""
    by_time: dict[datetime, list[SetVersion]] = {}
    for version in versions:
        by_time.setdefault(version.effective_at, []).append(version)
    for _, (*replaced, last) in sorted(by_time.items()):
        yield replaced, last


def _entry(
    version: SetVersion,
    state: VersionState,
    until: datetime | None,
    before: Mapping[str, PackAsked],
) -> VersionEntry:
    packs = as_asked(version.packs)
    return VersionEntry(
        version=version.version,
        state=state,
        effective_at=version.effective_at,
        until=until,
        set_at=version.set_at,
        by=version.by,
        reason=version.reason,
        packs=packs,
        changes=changes(before, packs),
    )
