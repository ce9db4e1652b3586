"""Forget, bring back, hold: what the next generation of the manifest says, whoever interferes."""

from __future__ import annotations

import os
import random
from dataclasses import replace as changed
from datetime import timedelta

import pytest
from msgspec import structs

from blocksnapd.errors import (
    BusyError,
    NotFoundError,
    ObjectExistsError,
    RefusedError,
    StoreError,
    StoreFullError,
    StoreMissingError,
)
from blocksnapd.keep_rules import parse_rule
from blocksnapd.maintain.prune import Pruner, hold_text, is_held
from blocksnapd.maintain.retention import Policy
from blocksnapd.maintain.revise import TRIES_MAX
from blocksnapd.store.files import LocalStore
from blocksnapd.store.floor import write_floor
from blocksnapd.store.keys import MaintenanceKey
from blocksnapd.store.listing import entry_name
from blocksnapd.store.manifest_format import Hold, Verified
from blocksnapd.store.manifests import Manifests
from blocksnapd.store.names import manifests_prefix
from tests.fakes.faulty_objects import KINDS, Faults, FaultyObjects, Killed, Place
from tests.store.support import START, VOLUME, Lab, point_id

DAY = 86_400
POLICY = Policy((parse_rule("all for 10m"),), min_points=1, max_delete_pct=100)


class Clock:
    """Says what the test says: at first the 20th minute of the lab's history."""

    def __init__(self) -> None:
        self.now = (START + timedelta(minutes=20, seconds=30)).timestamp()

    def __call__(self) -> float:
        return self.now


def make_lab(points: int = 20) -> Lab:
    """Return a lab with points a minute apart, each with changes of its own and shared ones."""
    lab = Lab()
    for number in range(points):
        lab.commit(lab.write([number, number + 1, 40]) if number else None)
    return lab


def pruner_of(lab: Lab, clock: Clock, store=None) -> Pruner:
    key = MaintenanceKey(lab.keys.source, lab.keys.metadata_private)
    return Pruner(store or lab.store, key, clock)


@pytest.fixture
def lab() -> Lab:
    return make_lab()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pruner(lab, clock) -> Pruner:
    return pruner_of(lab, clock)


def there(pruner: Pruner) -> list[int]:
    return [c.seq for c in pruner.look(VOLUME).candidates(pruner.now_us())]


def test_a_prune_forgets_and_removes_nothing(lab, pruner, clock):
    before = dict(lab.store.objects)
    plan, ledger = pruner.prune(VOLUME, POLICY)
    assert [p.seq for p in plan.forgotten] == list(range(1, 11))
    assert there(pruner) == list(range(11, 21))
    assert {n: d for n, d in lab.store.objects.items() if n in before} == before
    assert len(lab.store.objects) == len(before) + 1
    found = ledger.forgotten(1)
    assert found.since_us == round(clock.now * 10**6)
    assert found.until_us - found.since_us == 14 * DAY * 10**6
    assert found.reason == plan.plan_id
    assert len(ledger.manifest.points) == 20
    lab.check_all()  # forgotten ones too


def test_a_second_prune_changes_nothing(pruner):
    pruner.prune(VOLUME, POLICY)
    generation = pruner.look(VOLUME).loaded.generation
    plan, ledger = pruner.prune(VOLUME, POLICY)
    assert plan.forgotten == ()
    assert ledger.loaded.generation == generation


def test_a_plan_is_measured_over_the_points_own_layers(lab, pruner):
    plan = pruner.measured(pruner.plan(VOLUME, POLICY))
    assert {p.frees_bytes is None for p in plan.kept} == {True}
    # Point n rewrites block n, which n-1 wrote; and 40, which all of them write.
    alone = [p.frees_bytes for p in plan.forgotten]
    assert all(share > 0 for share in alone[1:])
    # In a row the middle ones hide nothing else of one another: the parts make the whole.
    assert plan.frees_bytes == pytest.approx(sum(alone), abs=len(alone))
    stored = sum(p.stored_bytes for p in pruner.look(VOLUME).points[:10])
    assert 0 < plan.frees_bytes < stored


def test_nothing_to_forget_is_nothing_to_measure(pruner):
    everything = changed(POLICY, rules=(parse_rule("all for ever"),))
    plan = pruner.plan(VOLUME, everything)
    assert pruner.measured(plan).frees_bytes == 0


def test_a_measure_counts_what_was_forgotten_before_as_gone(lab, pruner, clock):
    whole = pruner.measured(pruner.plan(VOLUME, POLICY)).frees_bytes
    half = changed(POLICY, rules=(parse_rule("all for 15m"),))
    first = pruner.measured(pruner.plan(VOLUME, half))
    pruner.apply(first)
    rest = pruner.measured(pruner.plan(VOLUME, POLICY))
    assert len(rest.points) == 15
    assert first.frees_bytes + rest.frees_bytes == pytest.approx(whole, abs=1)


def test_guards_stop_whoever_has_nobody_to_ask(pruner, clock):
    plan, ledger = pruner.prune(VOLUME, changed(POLICY, max_delete_pct=30))
    assert ledger is None
    assert [g.name for g in plan.guards] == ["max_delete_pct"]
    assert there(pruner) == list(range(1, 21))
    # Somebody has looked at it and says yes.
    assert len(pruner.apply(plan).manifest.forgotten) == 10
    assert there(pruner) == list(range(11, 21))


def test_the_clock_of_the_last_change_is_a_guard(pruner, clock):
    pruner.hold(VOLUME, point_id(1))
    clock.now -= 20 * 60
    plan, ledger = pruner.prune(VOLUME, changed(POLICY, rules=(parse_rule("1/d for 5w"),)))
    assert ledger is None
    assert {g.name for g in plan.guards} == {"future", "clock-back"}


def test_a_missing_point_is_a_guard_and_no_candidate(lab, pruner):
    pruner.hold(VOLUME, point_id(1))
    entry = pruner.look(VOLUME).points[14]
    lab.store.delete(entry_name(VOLUME, entry))
    plan, ledger = pruner.prune(VOLUME, POLICY)
    assert ledger is None
    assert [g.name for g in plan.guards] == ["missing"]
    assert entry_name(VOLUME, entry) in plan.guards[0].text
    assert 15 not in there(pruner)


def test_an_expired_plan_and_a_changed_state_are_refused(pruner, clock):
    plan = pruner.plan(VOLUME, POLICY)
    pruner.hold(VOLUME, point_id(3), reason="audit")
    with pytest.raises(RefusedError, match=f"{point_id(3)} is held: audit"):
        pruner.apply(plan)
    plan = pruner.plan(VOLUME, POLICY)
    clock.now += 16 * 60
    with pytest.raises(RefusedError, match="expired"):
        pruner.apply(plan)
    assert there(pruner) == list(range(1, 21))


def test_a_plan_is_not_done_twice(pruner):
    plan = pruner.plan(VOLUME, POLICY)
    pruner.apply(plan)
    with pytest.raises(RefusedError, match="forgotten or gone"):
        pruner.apply(plan)


def test_points_committed_meanwhile_do_not_matter(lab, pruner):
    plan = pruner.plan(VOLUME, POLICY)
    lab.image[:] = 0
    lab.commit(lab.write([1]), number=21)
    pruner.apply(plan)
    assert there(pruner) == list(range(11, 22))
    assert len(pruner.look(VOLUME).manifest.points) == 21


def test_the_newest_and_the_last_verified_stay(lab, pruner, clock):
    manifests = Manifests(lab.store, lab.keys)
    ledger = pruner.look(VOLUME)
    seen = (Verified(2, 1, "data"), Verified(4, 1, "data"), Verified(6, 1, "structure"))
    manifest = structs.replace(ledger.manifest, points=ledger.points, verified=seen)
    manifests.publish(ledger.loaded, manifest, time_us=pruner.now_us())
    clock.now += 2 * 3600
    pruner.prune(VOLUME, POLICY)
    assert there(pruner) == [4, 20]


def test_a_forgotten_point_comes_back_and_stays(lab, pruner, clock):
    pruner.prune(VOLUME, POLICY)
    clock.now += 13 * DAY
    pruner.undelete(VOLUME, point_id(2))
    assert there(pruner) == [2, *range(11, 21)]
    assert [(h.seq, h.reason) for h in pruner.look(VOLUME).manifest.holds] == [(2, "brought back")]
    pruner.apply(pruner.plan(VOLUME, POLICY))
    assert there(pruner) == [2, 20]
    pruner.release(VOLUME, point_id(2))
    pruner.apply(pruner.plan(VOLUME, POLICY))
    assert there(pruner) == [20]


def test_what_cannot_be_brought_back_is_told(pruner, clock):
    pruner.prune(VOLUME, POLICY)
    with pytest.raises(RefusedError, match="is not forgotten"):
        pruner.undelete(VOLUME, point_id(11))
    with pytest.raises(NotFoundError, match="no point"):
        pruner.undelete(VOLUME, "p0")
    clock.now += 14 * DAY
    with pytest.raises(RefusedError, match="could be brought back until 2026-01-16 03:24 UTC"):
        pruner.undelete(VOLUME, point_id(2))


def test_a_hold_ends_by_itself(pruner, clock):
    until_us = pruner.now_us() + DAY * 10**6
    pruner.hold(VOLUME, point_id(1), until_us=until_us, reason="audit")
    pruner.hold(VOLUME, point_id(2), reason="first")
    pruner.hold(VOLUME, point_id(2), reason="second")
    pruner.prune(VOLUME, POLICY)
    assert there(pruner) == [1, 2, *range(11, 21)]
    reasons = {c.seq: c.held for c in pruner.look(VOLUME).candidates(pruner.now_us()) if c.held}
    assert reasons == {1: "held until 2026-01-03 03:24 UTC: audit", 2: "held: second"}
    clock.now += DAY
    pruner.prune(VOLUME, POLICY)
    assert there(pruner) == [2, 20]


def test_what_cannot_be_held_is_told(pruner, clock):
    pruner.prune(VOLUME, POLICY)
    with pytest.raises(RefusedError, match="is past"):
        pruner.hold(VOLUME, point_id(20), until_us=pruner.now_us())
    with pytest.raises(RefusedError, match="is forgotten") as caught:
        pruner.hold(VOLUME, point_id(1))
    assert "undelete" in caught.value.hint
    generation = pruner.look(VOLUME).loaded.generation
    assert pruner.release(VOLUME, point_id(20)).loaded.generation == generation


def test_holds_for_people():
    assert hold_text(Hold(1, 0)) == "held"
    assert hold_text(Hold(1, 0, 0, "x")) == "held: x"
    assert is_held(Hold(1, 0), 5)
    assert is_held(Hold(1, 0, 6), 5)
    assert not is_held(Hold(1, 0, 5), 5)


def test_an_empty_mount_point_is_not_a_volume_without_points(lab, clock):
    lab.store.objects.clear()
    with pytest.raises(StoreMissingError):
        pruner_of(lab, clock).hold(VOLUME, point_id(1))
    assert not lab.store.list_names(manifests_prefix(VOLUME))


class Rival:
    """A store in which somebody else publishes whenever we are about to."""

    def __init__(self, lab: Lab, clock: Clock, times: int) -> None:
        self._inner, self._other, self.left = lab.store, pruner_of(lab, clock), times
        self.held = 0

    def __getattr__(self, name: str):
        return getattr(self._inner, name)

    def put(self, name, parts):
        if name.startswith("m/") and self.left:
            self.left -= 1
            self.held += 1
            self._other.hold(VOLUME, point_id(self.held % 20 + 1), reason=f"rival {self.held}")
        return self._inner.put(name, parts)


def test_who_loses_the_race_decides_anew(lab, clock):
    rival = Rival(lab, clock, times=1)
    pruner = pruner_of(lab, clock, rival)
    plan = pruner.plan(VOLUME, POLICY)
    with pytest.raises(RefusedError, match=f"{point_id(2)} is held: rival 1"):
        pruner.apply(plan)
    assert pruner.look(VOLUME).manifest.forgotten == ()
    rival.left = 2
    ledger = pruner.hold(VOLUME, point_id(20), reason="ours")
    assert [h.reason for h in ledger.manifest.holds] == ["rival 1", "rival 2", "rival 3", "ours"]
    rival.left = TRIES_MAX
    with pytest.raises(BusyError):
        pruner.release(VOLUME, point_id(20))


def hold_with_fault(lab, clock, kind: str) -> tuple[FaultyObjects, BaseException | None]:
    place = Place(lab.store)
    store = place.process(Faults(random.Random(1), changes={1}, kinds=frozenset({kind})))
    try:
        pruner_of(lab, clock, store).hold(VOLUME, point_id(5), reason="x")
    except (StoreError, Killed) as error:
        return store, error
    return store, None


@pytest.mark.parametrize("kind", KINDS["put"])
def test_a_fault_while_publishing_leaves_it_done_or_undone(lab, clock, kind):
    store, error = hold_with_fault(lab, clock, kind)
    assert store.happened
    holds = [h.seq for h in pruner_of(lab, clock).look(VOLUME).manifest.holds]
    if kind in {"lost-ack", "twice"}:
        assert (error, holds) == (None, [5])  # it is there, whatever the answer was
    elif kind in {"eio", "full"}:
        assert isinstance(error, StoreError)
        assert isinstance(error, StoreFullError) == (kind == "full")
        assert not isinstance(error, ObjectExistsError)
        assert holds == []
    else:
        assert isinstance(error, Killed)
        assert holds in ([], [5])


def test_nothing_younger_than_the_floor_of_its_place_is_forgotten(lab, clock, tmp_path):
    """Counted from when points arrived there: what their times say shortens nothing."""
    free = pruner_of(lab, clock).plan(VOLUME, POLICY)
    place = tmp_path / "place"
    place.mkdir()
    store = LocalStore(str(place))
    for name, data in lab.store.objects.items():
        store.put(name, [data])
    pruner = pruner_of(lab, clock, store)
    write_floor(str(place), 3600.0)
    plan = pruner.plan(VOLUME, POLICY)
    assert plan.forgotten == ()
    assert {p.seq for p in plan.points if p.reasons[0].startswith("floor ")} == {
        p.seq for p in free.forgotten
    }
    with pytest.raises(RefusedError, match="arrived less than 1h00m ago"):
        pruner.apply(free)
    assert pruner.look(VOLUME).manifest.forgotten == ()
    for path in place.glob("v/*/p/*.pt"):
        os.utime(path, (path.stat().st_mtime - 4000,) * 2)
    plan = pruner.plan(VOLUME, POLICY)
    assert [p.seq for p in plan.forgotten] == [p.seq for p in free.forgotten]
    assert len(pruner.apply(plan).manifest.forgotten) == len(free.forgotten)
