"""Derived ids."""

from uuid import UUID, uuid5

from hypothesis import given
from hypothesis import strategies as st

from billing_stream.domain.ids import NAMESPACE, derived_id, fingerprint
from tests.support.world import M1, World


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_a_derived_id_is_the_uuid5_of_its_parts(parts: list[str]) -> None:
    assert derived_id(*parts) == str(uuid5(UUID(bytes=NAMESPACE), "/".join(parts)))


def test_ids_never_change_between_versions() -> None:
    assert derived_id("trial.started", M1) == "6ed67290-80d1-5c3d-b68c-f3a6e8611565"


def test_a_repeated_decision_gives_the_same_ids() -> None:
    one, other = World().created(), World().created()

    assert one.reserve() == other.reserve()
    purchase = next(iter(one.rows.purchases))
    for world in (one, other):
        world.attach(purchase, "charge")
    assert one.webhook("ACTIVE") == other.webhook("ACTIVE")


def test_fingerprints_tell_parameters_apart() -> None:
    assert fingerprint("a", "bc") != fingerprint("ab", "c")
