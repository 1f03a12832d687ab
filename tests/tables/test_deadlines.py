"""Deadlines."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing_stream.tables.deadlines import Deadlines
from tests.support.world import NOW


@pytest.fixture
def deadlines() -> Deadlines:
    """None yet."""
    return Deadlines()


def minute(minutes: int) -> datetime:
    return NOW + timedelta(minutes=minutes)


def test_deadlines_are_taken_once_earliest_first(deadlines: Deadlines) -> None:
    for key, minutes in (("c", 3), ("a", 1), ("b", 2)):
        deadlines.set(key, minute(minutes))
    deadlines.set("c", NOW)
    deadlines.set("a", NOW + timedelta(days=1))

    taken = list(deadlines.take(minute(2), 10))

    assert taken == ["c", "a", "b"]
    assert list(deadlines.take(NOW + timedelta(days=2), 10)) == []
    assert deadlines.first() is None


def test_deadlines_are_taken_up_to_a_limit_and_the_rest_stays(deadlines: Deadlines) -> None:
    for number in range(5):
        deadlines.set(str(number), NOW)

    assert list(deadlines.take(NOW, 3)) == ["0", "1", "2"]
    assert len(deadlines) == 2
    assert list(deadlines.take(NOW, 3)) == ["3", "4"]


def test_a_deadline_is_due_at_its_moment_and_not_before(deadlines: Deadlines) -> None:
    deadlines.set("a", NOW)

    assert list(deadlines.take(NOW - timedelta(microseconds=1), 1)) == []
    assert deadlines.first() == NOW
    assert list(deadlines.take(NOW, 1)) == ["a"]


def test_a_key_that_was_taken_can_be_set_later_again(deadlines: Deadlines) -> None:
    deadlines.set("a", NOW)
    list(deadlines.take(NOW, 1))

    deadlines.set("a", minute(5))

    assert deadlines.first() == minute(5)


@settings(deadline=None)
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.sampled_from("abcd"), st.integers(0, 9)),
            st.tuples(st.just("take"), st.integers(0, 9)),
        )
    )
)
def test_deadlines_are_what_a_plain_dict_would_be(steps: list[tuple[str, int]]) -> None:
    deadlines, plain = Deadlines(), dict[str, int]()

    for key, at in steps:
        if key == "take":
            taken = list(deadlines.take(minute(at), 2))
            due = sorted((when, key) for key, when in plain.items() if when <= at)[:2]
            assert taken == [key for _, key in due]
            for key in taken:
                del plain[key]
        else:
            deadlines.set(key, minute(at))
            plain[key] = min(at, plain.get(key, at))
        assert len(deadlines) == len(plain)
        first = deadlines.first()
        assert first == (minute(min(plain.values())) if plain else None)
