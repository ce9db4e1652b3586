"""Collections of real repositories: garbage goes, points stay, whoever dies and whatever lies."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from blocksnapd.errors import (
    CancelledRunError,
    FormatError,
    NotFoundError,
    RefusedError,
    StoreError,
)
from blocksnapd.maintain.collect_rules import Patience
from blocksnapd.maintain.mark import mark
from blocksnapd.store.collection_format import Condemned
from blocksnapd.store.manifest_format import Forgotten
from blocksnapd.store.names import (
    condemned_name,
    done_name,
    manifest_name,
    packs_prefix,
    volume_prefix,
)
from tests.fakes.faulty_objects import Faults, Killed, Place
from tests.fakes.memory_objects import MemoryLock
from tests.maintain.collect_lab import NOISE, CollectLab
from tests.maintain.support import changed, flipped
from tests.store.support import VOLUME, point_id

if TYPE_CHECKING:
    from collections.abc import Callable

DEATHS = frozenset(("kill", "after"))


@pytest.fixture
def lab() -> CollectLab:
    """Eight points, the first three with packs of their own; 1, 4, 5 and 6 have expired."""
    lab = CollectLab(blocks=700)
    lab.large(0)
    lab.large(0)
    lab.large(330)
    for block in range(5):
        lab.commit(lab.write([block, block + 1]), number=lab.kept[-1][0].seq + 1)
    lab.forget({1, 4, 5, 6})
    return lab


def leftover(lab: CollectLab, number: int = 99) -> list[str]:
    """Leave the packs of a session that died; return their names."""
    sink = lab.sink(number)
    before, image = set(lab.packs()), lab.image.copy()
    lab.feed(sink, lab.write(range(NOISE), noise=True))
    sink.finish(lab.facts("delta", number))
    lab.image = image
    sink._lock.release()
    return sorted(set(lab.packs()) - before)


def test_what_expired_goes_in_two_runs(lab):
    packs, points = lab.packs(), lab.point_names()
    assert (len(packs), len(points)) == (3, 8)
    assert lab.collect().condemned == 0  # all is young
    lab.pass_days(9)
    assert lab.collect().condemned == 2
    assert lab.lists.condemned(1).packs == (packs[0],)
    assert lab.lists.condemned(1).points == (points[0],)
    assert lab.packs() == packs
    lab.pass_days(0.9)
    told = lab.collect()
    assert "left for readers" in told.waits
    assert lab.packs() == packs
    lab.pass_days(0.2)
    told = lab.collect()
    assert (told.deleted, told.spared, told.condemned) == (2, (), 0)
    assert told.size > NOISE * 4096
    assert lab.packs() == packs[1:]
    assert lab.point_names() == points[1:]  # blocks live within points 4, 5 and 6
    assert lab.lists.published().open == ()
    assert lab.lists.done(1).count == 2
    lab.check_all()
    assert lab.collect().condemned == 0


def test_the_manifest_knows_what_is_in_use(lab):
    lab.collect_all()
    manifest = lab.look()[0].manifest
    assert manifest.epoch == 1
    assert manifest.pack_count == 2
    assert manifest.pack_bytes == sum(lab.store.size(n) for n in lab.packs())
    assert manifest.collected_us == int(lab.now * 1e6)


def test_what_can_be_brought_back_stays(lab):
    loaded, points = lab.look()
    forgotten = tuple(Forgotten(p.seq, 0, 10**17) for p in points[:-1])
    manifest = replace(loaded.manifest, forgotten=forgotten)
    lab.manifests.publish(loaded, manifest, time_us=0)
    lab.collect_all()
    lab.check_all()


def test_nothing_is_collected_before_there_are_points():
    lab = CollectLab(blocks=700)
    lab.store.put("v/vol-1/d/20260102/p0000000000000001-0000-0a1b2c3d.pk", [b"x"])
    lab.pass_days(99)
    assert lab.collect().condemned == 0


def test_leftovers_stay_until_their_session_is_surely_over(lab):
    lab.collect_all()
    names = leftover(lab)
    lab.pass_days(1.9)
    assert lab.collect().condemned == 0
    lab.pass_days(3)
    lock = lab.store.lock(volume_prefix(VOLUME))
    assert lab.collect().condemned == 0  # a writer may be filling them still
    lock.release()
    assert lab.collect().condemned == len(names)
    assert lab.lists.condemned(2).packs == tuple(names)


def test_leftovers_go_although_a_writer_is_always_at_work(lab):
    names = leftover(lab)
    lock = lab.store.lock(volume_prefix(VOLUME))
    lab.pass_days(8.1)
    assert lab.collect().condemned == 3
    lab.pass_days(2)
    told = lab.collect()
    assert "has not seen collection 1" in told.waits
    lock.release()
    lab.commit(lab.write([9]), number=50)
    lab.pass_days(2)
    lock = lab.store.lock(volume_prefix(VOLUME))
    assert lab.collect().deleted == 3  # its point has seen the list
    assert not set(names) & set(lab.packs())
    lock.release()
    lab.check_all()


def test_a_lock_of_one_host_proves_nothing_of_the_others(lab, monkeypatch):
    """In object storage a writer elsewhere may be filling packs while the lock here is free."""
    lab.collect_all()
    monkeypatch.setattr(MemoryLock, "is_everywhere", False)
    names = leftover(lab)
    lab.pass_days(4)
    assert lab.collect().condemned == 0
    lab.pass_days(4.1)
    assert lab.collect().condemned == len(names)
    lab.pass_days(2)
    assert "has not seen collection 2" in lab.collect().waits
    assert set(names) <= set(lab.packs())
    lab.pass_days(5.1)  # no session lasts for so long
    assert lab.collect().deleted == len(names)
    lab.check_all()


def test_a_cycle_is_never_kept_waiting(lab):
    """The lock is free whenever the collection does anything that takes time."""
    leftover(lab)
    lab.pass_days(5)
    get_range = lab.store.get_range

    def look(name, offset, size):
        lab.store.lock(volume_prefix(VOLUME)).release()
        return get_range(name, offset, size)

    lab.store.get_range = look
    lab.collect()
    lab.pass_days(2)
    assert lab.collect().deleted == 3


def test_a_commit_between_the_listings_is_no_distrust(lab, monkeypatch):
    """Its packs were not listed, its point is: whoever looks again sees both."""
    names = leftover(lab)
    lab.pass_days(8.5)
    whole = lab.store.list_names

    def listed(prefix):
        found = whole(prefix)
        if prefix == packs_prefix(VOLUME):
            monkeypatch.setattr(lab.store, "list_names", whole)
            lab.large()
        return found

    monkeypatch.setattr(lab.store, "list_names", listed)
    lab.collect()
    assert {*names} < {*lab.lists.condemned(1).packs} < {*whole(packs_prefix(VOLUME))}
    assert not any(point_id(9) in name for name in lab.lists.condemned(1).packs)


def test_a_point_that_came_after_the_list_spares_what_it_names(lab):
    sink = lab.sink(60)
    image = lab.image.copy()
    lab.feed(sink, lab.write(range(NOISE), noise=True))
    sink.finish(lab.facts("delta", 60))
    mine = [n for n in lab.packs() if point_id(60) in n]
    lab.pass_days(8.5)
    assert lab.collect().condemned == 3
    assert set(mine) < set(lab.lists.condemned(1).packs)
    # A program of another kind, which does not look, commits all the same.
    sink._watch.look_before = sink._watch.look_after = lambda *_: None
    point = sink.commit(lab.facts("delta", 60))
    lab.kept.append((point, lab.bytes()))
    assert (lab.image != image).any()
    lab.pass_days(2)
    told = lab.collect()
    assert set(told.spared) == set(mine)
    assert told.deleted == 2
    lab.check_all()


def test_a_forged_list_deletes_nothing_that_lives(lab):
    """A source has the key of tags: it may publish, and is not believed."""
    everything = Condemned(
        lab.keys.source.repository_id, VOLUME, 1, 0, 0, 0, packs=tuple(lab.packs()),
        points=tuple(lab.point_names()), layers=tuple(ref.name for ref in lab.layers()),
    )  # fmt: skip
    lab.lists.put(everything)
    lab.pass_days(30)
    told = lab.collect()
    assert told.deleted == 2
    lab.check_all()


def test_a_list_that_is_damaged_condemns_nothing(lab):
    lab.pass_days(9)
    lab.collect()
    name = condemned_name(VOLUME, 1)
    lab.store.objects[name] = flipped(lab.store.objects[name], 60)
    lab.pass_days(9)
    told = lab.collect()
    assert (told.deleted, told.condemned) == (0, 2)
    lab.pass_days(9)
    assert lab.collect().deleted == 2
    lab.check_all()


def test_a_missing_pack_is_told_and_the_rest_goes_on(lab):
    lost = lab.packs()[-1]
    del lab.store.objects[lost]
    lab.pass_days(9)
    assert lab.collect().lost == (lost,)
    lab.pass_days(2)
    told = lab.collect()
    assert (told.lost, told.deleted) == ((lost,), 2)


def test_old_manifests_and_lists_go_too(lab, monkeypatch):
    monkeypatch.setattr("blocksnapd.maintain.collect._RECORDS_MIN", 3)
    lab.collect_all()
    for at in range(12):
        loaded, _ = lab.look()
        lab.manifests.publish(loaded, replace(loaded.manifest, epoch=1), time_us=at)
    lab.commit(lab.write([1]), number=70)
    lab.pass_days(3)
    assert lab.collect().condemned > 3
    condemned = lab.lists.condemned(2)
    assert condemned.collections == ()  # the last list tells where epochs are
    generations = lab.manifests.generations(VOLUME)
    assert set(condemned.manifests) <= {manifest_name(VOLUME, g) for g in generations[:-8]}
    lab.commit(lab.write([1]), number=71)
    lab.pass_days(3)
    lab.collect()
    assert not set(condemned.manifests) & set(lab.store.objects)
    for at in range(12):
        loaded, _ = lab.look()
        lab.manifests.publish(loaded, replace(loaded.manifest, epoch=1), time_us=at)
    lab.commit(lab.write([1]), number=72)
    lab.pass_days(3)
    lab.collect()
    assert set(lab.lists.condemned(3).collections) == {
        condemned_name(VOLUME, 1), done_name(VOLUME, 1),
    }  # fmt: skip
    lab.pass_days(3)
    lab.collect()
    assert lab.lists.published().lists == (2, 3)
    lab.check_all()


# What cannot be believed


def untouched(lab: CollectLab, error: type[Exception], match: str = ".") -> None:
    """Make sure that a run fails and changes nothing, whether it condemns or sweeps."""
    before = dict(lab.store.objects)
    with pytest.raises(error, match=match):
        lab.collect()
    assert lab.store.objects == before


@pytest.fixture(params=["condemns", "sweeps"])
def ready(request, lab) -> CollectLab:
    """A collection that is about to condemn, or to sweep."""
    lab.pass_days(9)
    if request.param == "sweeps":
        lab.collect()
        lab.commit(lab.write([33]), number=40)
        lab.pass_days(2)
    return lab


@pytest.mark.parametrize("prefix", ["v/vol-1/p/", "v/vol-1/d/", "v/vol-1/l/", "m/", "g/"])
def test_a_failing_listing_ends_it(ready, prefix, monkeypatch):
    whole = ready.store.list_names

    def fail(asked):
        if asked.startswith(prefix):
            raise StoreError("Input/output error")
        return whole(asked)

    monkeypatch.setattr(ready.store, "list_names", fail)
    untouched(ready, StoreError)


def hide(lab: CollectLab, monkeypatch, hidden) -> None:
    whole = lab.store.list_names
    monkeypatch.setattr(
        lab.store, "list_names", lambda asked: [n for n in whole(asked) if not hidden(n)]
    )


def test_a_listing_without_the_newest_manifest_is_not_believed(ready, monkeypatch):
    name = manifest_name(VOLUME, ready.manifests.generations(VOLUME)[-1])
    hide(ready, monkeypatch, lambda n: n == name)
    untouched(ready, StoreError, "left out")


@pytest.mark.parametrize("at", [0, 2])
def test_a_listing_without_listed_points_is_not_believed(ready, at, monkeypatch):
    names = ready.listed()
    hide(ready, monkeypatch, lambda n: n == names[at])
    untouched(ready, RefusedError, "is not there")


def test_a_listing_without_points_at_all_is_not_believed(ready, monkeypatch):
    hide(ready, monkeypatch, lambda n: "/p/" in n)
    untouched(ready, RefusedError)


def test_a_hole_among_new_points_is_not_believed(ready, monkeypatch):
    for number in (41, 42, 43):
        ready.commit(ready.write([number]), number=number)
    hide(ready, monkeypatch, lambda n: point_id(42) in n)
    untouched(ready, (RefusedError, StoreError))


def test_a_listing_without_packs_is_not_believed(ready, monkeypatch):
    hide(ready, monkeypatch, lambda n: n.endswith(".pk"))
    untouched(ready, RefusedError, "was not listed")


def test_many_lost_packs_are_not_believed(ready):
    for name in ready.packs()[1:]:
        del ready.store.objects[name]
    untouched(ready, RefusedError, "2 of the 2 packs")


def test_damage_ends_it(ready):
    loaded, points = ready.look()
    for name in mark(ready.store, ready.key, loaded, points).needed | {ready.listed()[-1]}:
        data = ready.store.objects[name]
        with changed(ready, name, flipped(data, len(data) // 2)):
            untouched(ready, (RefusedError, FormatError, NotFoundError))
        if point_id(40) not in name:  # a newest point that nobody saw leaves no trace
            with changed(ready, name, None):
                untouched(ready, (RefusedError, StoreError, NotFoundError))


def test_two_new_points_in_one_place_end_it(ready):
    ready.commit(ready.write([41]), number=41)
    newest = ready.point_names()[-1]
    ready.store.objects[newest.replace("-p0", "-pf")] = ready.store.objects[newest]
    untouched(ready, FormatError)


def test_a_point_that_came_beside_a_listed_one_is_no_point(lab):
    """Nobody acknowledged it: its writer saw the other one."""
    newest = lab.point_names()[-1]
    beside = newest.replace("-p0", "-pf")
    lab.store.objects[beside] = lab.store.objects[newest]
    lab.collect_all()
    assert beside not in lab.store.objects
    lab.check_all()


def test_it_stops_when_asked(ready):
    with pytest.raises(CancelledRunError):
        ready.collect(cancelled=lambda: True)
    ready.check_all()


# Deaths


def test_it_may_die_between_any_two_calls(lab):
    """Each run dies one call later than the one before; the next one goes on."""
    leftover(lab)
    lab.pass_days(9)
    images = len(lab.kept)
    ended = 0
    for call in range(1, 400):
        before = dict(lab.store.objects)
        store = Place(lab.store).process(Faults(random.Random(call), {call}, kinds=DEATHS))
        try:
            lab.collector(store).run()
            ended += 1
        except Killed:
            lab.collect()  # whoever comes next
        lab.pass_days(2)
        lab.collect()
        assert len(lab.packs()) == 2
        assert lab.lists.published().open == ()
        if ended:
            break
        lab.store.objects.clear()
        lab.store.objects.update(before)
        lab.pass_days(-2)
    assert call > 20
    lab.check_all()
    assert len(lab.kept) == images


def test_it_may_die_while_it_deletes(lab):
    leftover(lab)
    lab.pass_days(9)
    lab.collect()
    lab.pass_days(2)
    before = dict(lab.store.objects)
    for call in range(1, 400):
        store = Place(lab.store).process(Faults(random.Random(call), {call}, kinds=DEATHS))
        try:
            lab.collector(store).run()
            break
        except Killed:
            lab.check_all() if call % 8 == 0 else None
            lab.collect()
        assert len(lab.packs()) == 2
        assert lab.lists.published().open == ()
        lab.store.objects.clear()
        lab.store.objects.update(before)
    assert call > 20
    lab.check_all()


@pytest.mark.parametrize("deletes", [1, 2])
def test_what_was_deleted_before_the_manifest_had_its_number_is_not_missed(
    lab, deletes, monkeypatch
):
    """One run dies after its list was published, the next while it deletes half of all packs."""

    def failing(what: str, fails: Callable[[str], bool]) -> None:
        deed = getattr(lab.store, what)

        def fail(name: str, *more: object) -> object:
            done = deed(name, *more)
            if fails(name):
                raise StoreError("no answer")
            return done

        with monkeypatch.context() as patched:
            patched.setattr(lab.store, what, fail)
            with pytest.raises(StoreError, match="no answer"):
                lab.collect()

    for days in (9, 2):
        lab.pass_days(days)
        lab.collect()
    lab.large(0)
    lab.large(330)
    lab.collect()
    assert lab.manifests.newest(VOLUME).manifest.pack_count == len(lab.packs()) == 4
    lab.forget({2, 3, 7, 8, 9})
    lab.pass_days(20)
    failing(
        "list_names", lambda prefix: prefix.startswith("m/") and len(lab.lists.published().open)
    )
    assert len(lab.lists.condemned(lab.lists.published().open[-1]).packs) == 2
    lab.pass_days(2)
    failing("delete", lambda _: len(lab.packs()) == 4 - deletes)
    assert len(lab.packs()) == 4 - deletes
    lab.collect()
    assert len(lab.packs()) == 2
    lab.check_all()


def test_two_at_once_do_no_harm(lab):
    lab.pass_days(9)
    first, second = lab.collector(), lab.collector()
    put = lab.store.put

    def race(name, parts):
        if name.endswith(".cond"):
            lab.store.put = put
            second.run()
        return put(name, parts)

    lab.store.put = race
    with pytest.raises(StoreError, match="exists"):
        first.run()
    lab.pass_days(2)
    assert lab.collect().deleted == 2
    lab.check_all()


def test_impatience_is_a_choice_of_tests(lab):
    """With no patience two runs are enough; points stay whole even so."""
    patience = Patience(young_s=0.0, leftover_s=1.0, wait_s=0.0, session_s=0.5)
    assert lab.collect(patience=patience).condemned == 2
    assert lab.collect(patience=patience).deleted == 2
    lab.check_all()
