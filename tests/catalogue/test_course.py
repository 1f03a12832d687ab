"""What versions change, which is in force, which come, and which packs are retired."""

from datetime import UTC, datetime, timedelta

from billing_stream.domain.policy import PACKS, Pack
from billing_stream.ops.catalogue.course import CatalogueCourse, Change, Source, course_of
from billing_stream.records.catalogue_records import SetVersion

NOW = datetime(2026, 5, 1, tzinfo=UTC)
SMALL, CHEAP = Pack(100, {"USD": "9.99"}), Pack(100, {"USD": "8.99"}, "Cheap")


def version(number: int, hours: int, **packs: Pack) -> SetVersion:
    """A version that is effective so many hours from now."""
    at = NOW + timedelta(hours=hours)
    return SetVersion(number, at, packs, NOW - timedelta(days=1), "ann", "prices", f"t[0]@{number}")


def course(*versions: SetVersion) -> CatalogueCourse:
    return course_of(versions, PACKS, NOW)


def states(found: CatalogueCourse) -> dict[int, str]:
    return {one.version: one.state.value for one in found.versions}


def test_without_a_version_in_force_the_settings_decide() -> None:
    found = course(version(1, 2, small=SMALL))

    assert (found.now.source, found.now.in_force) == (Source.SETTINGS, None)
    assert set(found.now.packs) == {"small", "medium", "large"}
    assert [one.version for one in found.now.coming] == [1]
    assert found.now.retired == []


def test_versions_follow_each_other_by_their_effective_times() -> None:
    found = course(
        version(1, -5, small=SMALL),
        version(2, 3, small=CHEAP),
        version(3, -1, small=SMALL, huge=SMALL),
        version(4, 3, large=SMALL),
        version(5, 1, small=CHEAP, huge=SMALL),
    )

    assert states(found) == {5: "coming", 4: "coming", 3: "in force", 2: "replaced", 1: "past"}
    assert [one.version for one in found.now.coming] == [5, 4]
    ends = {one.version: one.until for one in found.versions}
    assert (ends[1], ends[3], ends[4]) == (NOW - timedelta(hours=1), NOW + timedelta(hours=1), None)
    changes = {
        one.version: [(change.pack, change.change) for change in one.changes]
        for one in found.versions
    }
    assert changes[3] == [("huge", Change.NEW)]
    assert changes[5] == [("small", Change.CHANGED)]
    # What was replaced would have changed the same packs.
    assert changes[2] == [("huge", Change.RETIRED)]
    assert changes[4] == [
        ("large", Change.NEW),
        ("small", Change.RETIRED),
        ("huge", Change.RETIRED),
    ]


def test_a_retired_pack_is_named_until_it_is_sold_again() -> None:
    before = course(version(1, -5, small=SMALL), version(2, -4, large=SMALL))
    retired = [(one.pack, one.terms.credits, one.version) for one in before.now.retired]
    assert retired == [("medium", 500, 1), ("small", 100, 2)]

    after = course(version(1, -5, small=SMALL), version(2, -4, large=SMALL, medium=SMALL))
    assert [one.pack for one in after.now.retired] == ["small"]


def test_a_new_version_is_compared_with_the_one_before_its_time() -> None:
    found = course(version(1, -5, small=SMALL), version(2, 2, small=CHEAP))

    assert found.before(None) == found.before(NOW + timedelta(hours=1))
    assert found.before(NOW + timedelta(hours=3))["small"].title == "Cheap"
