"""Derived ids."""

from uuid import UUID, uuid5

from hypothesis import example, given
from hypothesis import strategies as st

from billing_stream.domain.commands import StartTrial
from billing_stream.domain.ids import NAMESPACE, derived_id, fingerprint
from tests.support.world import M1, M2, World


@given(st.lists(st.text(st.characters(codec="utf-8")), max_size=4))
@example(["", ""])
@example(["é", "\0", "a/b"])
def test_a_derived_id_is_the_uuid5_of_its_parts(parts: list[str]) -> None:
    assert derived_id(*parts) == str(uuid5(UUID(bytes=NAMESPACE), "/".join(parts)))


def test_ids_never_change_between_versions() -> None:
    assert derived_id("trial.started", M1) == "6ed67290-80d1-5c3d-b68c-f3a6e8611565"
    assert fingerprint("start_trial") == "43a6bda97e89896afc5967970d47772a"


def test_a_repeated_decision_gives_the_same_ids() -> None:
    one, other = World().created(), World().created()

    assert one.reserve() == other.reserve()
    purchase = next(iter(one.rows.purchases))
    for world in (one, other):
        world.attach(purchase)
    assert one.webhook("ACTIVE") == other.webhook("ACTIVE")


def test_an_event_has_the_same_id_whenever_and_by_whatever_it_is_caused() -> None:
    on_time, late = World().on_trial(), World().on_trial()
    purchases = [world.charged() for world in (on_time, late)]

    on_time.webhook("ACTIVE")
    on_time.later(days=14).tick()
    late.later(days=20).webhook("accepted", source="w[5]@99")

    assert purchases[0] == purchases[1]
    ids = {event.data.kind: event.event_id for event in on_time.events}
    assert ids.items() <= {event.data.kind: event.event_id for event in late.events}.items()


def test_all_events_of_all_merchants_have_ids_of_their_own() -> None:
    world = World()
    for merchant in (M1, M2):
        world.on_trial(merchant)
        for charge in ("a", "b"):
            world.charged(charge, merchant)
            world.webhook("declined", charge, merchant)
            world.refund(charge, merchant)
        world.opened(merchant)
    world.later(days=20)
    for merchant in (M1, M2):
        world.tick(merchant)

    ids = [event.event_id for event in world.events]

    assert len(set(ids)) == len(ids) == 2 * (1 + 2 * 3 + 2)


def test_purchase_ids_differ_by_request_and_merchant() -> None:
    world, other = World().created(M1), World().created(M2)

    ids = {world.opened(M1), world.opened(M1), other.opened(M2), other.opened(M2)}

    assert len(ids) == 4


def test_fingerprints_tell_parameters_apart() -> None:
    assert fingerprint("a", "bc") != fingerprint("ab", "c")
    assert fingerprint("a", "") != fingerprint("a")
    assert fingerprint("a") == fingerprint("a")


def test_a_trial_asked_for_by_different_records_is_one_event() -> None:
    one, other = World().created(), World().created()

    first = one.do(StartTrial(M1, "k", "c[0]@1"))
    second = other.do(StartTrial(M1, None, "c[7]@8"))

    assert [e.event_id for e in first.events] == [e.event_id for e in second.events]
