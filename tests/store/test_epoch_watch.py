"""A writer meets a collection: before its commit, after it, and in the next session."""

from __future__ import annotations

import pytest

from blocksnapd.errors import CondemnedError, ObjectExistsError
from blocksnapd.store.collection_format import Condemned, Done
from blocksnapd.store.collection_lists import CollectionLists
from blocksnapd.store.epoch_watch import EpochWatch, is_base_tainted, session_clock
from blocksnapd.store.names import condemned_name, pack_name, point_name
from tests.store.support import VOLUME, Lab, point_id


@pytest.fixture
def lab() -> Lab:
    lab = Lab(blocks=400)
    lab.write(range(10, 60))
    lab.commit()
    return lab


def condemn(lab: Lab, epoch: int, *packs: str, newest_seq: int = 1) -> None:
    """Publish a list with the key that every source has."""
    source = lab.keys.source
    record = Condemned(source.repository_id, VOLUME, epoch, 0, 0, newest_seq, packs=packs)
    CollectionLists(lab.store, source, VOLUME).put(record)


def watch(lab: Lab, **more: object) -> EpochWatch:
    return EpochWatch(lab.store, lab.keys.source, VOLUME, **more)


def own(session: int) -> str:
    return pack_name(VOLUME, "20260102", point_id(session), 0, "0a1b2c3d")


MINE = point_name(VOLUME, 2, point_id(2))


def test_the_epoch_is_noted_in_the_point(lab):
    condemn(lab, 4)
    assert watch(lab).epoch == 4
    point = lab.commit(lab.write([1]))
    assert lab.reader._reader().load(point.name).object.header.epoch == 4
    lab.store.delete(condemned_name(VOLUME, 4))
    assert watch(lab).epoch == 0
    assert watch(lab, base_epoch=4).epoch == 4


def test_a_proof_without_its_list_counts(lab):
    source = lab.keys.source
    CollectionLists(lab.store, source, VOLUME).put(Done(source.repository_id, VOLUME, 6, 0, 1))
    assert watch(lab).epoch == 6


def test_nothing_new_is_nothing_to_refuse(lab):
    condemn(lab, 1, own(2))
    seen = watch(lab)
    seen.look_before(MINE, {own(2)})
    seen.look_after(MINE, {own(2)})


def test_own_packs_on_a_new_list_end_a_session(lab):
    seen = watch(lab)
    condemn(lab, 1, own(2))
    with pytest.raises(CondemnedError, match="leftovers") as error:
        seen.look_before(MINE, {own(2)})
    assert "Nothing was committed" in error.value.effect
    with pytest.raises(CondemnedError, match="not relied on"):
        seen.look_after(MINE, {own(2)})
    seen.look_before(MINE, {own(3)})


def test_a_damaged_list_is_one_nobody_knows(lab):
    seen = watch(lab)
    condemn(lab, 1)
    name = condemned_name(VOLUME, 1)
    data = lab.store.objects[name]
    lab.store.objects[name] = data[:-1] + bytes([data[-1] ^ 1])
    with pytest.raises(CondemnedError, match="not readable"):
        seen.look_before(MINE, {own(2)})


def test_lists_that_vanish_are_not_believed(lab):
    condemn(lab, 1)
    seen = watch(lab)
    lab.store.delete(condemned_name(VOLUME, 1))
    with pytest.raises(CondemnedError, match="not seen any more"):
        seen.look_before(MINE, {own(2)})


def test_a_session_has_its_time(lab):
    now = [100.0]
    seen = watch(lab, clock=lambda: now[0], age_s_max=10.0)
    now[0] = 110.0
    seen.look_before(MINE, set())
    now[0] = 110.1
    with pytest.raises(CondemnedError, match="longer than"):
        seen.look_before(MINE, set())


def test_the_clock_of_sessions_goes_on():
    assert session_clock() <= session_clock()


def test_a_rival_is_seen_after_the_commit(lab):
    seen = watch(lab)
    first = lab.kept[0][0].name
    seen.look_for_rivals(MINE)
    with pytest.raises(ObjectExistsError, match="beside another"):
        seen.look_for_rivals(point_name(VOLUME, 1, point_id(9)))
    assert first in lab.store.objects


def test_a_session_whose_packs_are_taken_for_leftovers_gives_up(lab):
    """Between its last pack and its commit: nothing is committed, nothing stays."""
    sink = lab.sink(2)
    lab.feed(sink, lab.write(range(390), noise=True))
    facts = lab.facts("delta", 2)
    sink.finish(facts)
    mine = [n for n in lab.store.list_names("v/") if point_id(2) in n]
    assert mine
    condemn(lab, 1, *mine)
    with pytest.raises(CondemnedError):
        sink.commit(facts)
    sink.abort()
    assert not any(point_id(2) in n for n in lab.store.list_names("v/"))
    lab.commit(range(390), number=3)
    lab.check_all()


def test_a_point_that_came_too_late_is_not_gone_on_from(lab):
    """The list came between the last look and the point: afresh, once."""
    sink = lab.sink(2)
    lab.feed(sink, lab.write(range(390), noise=True))
    facts = lab.facts("delta", 2)
    sink.finish(facts)
    mine = [n for n in lab.store.list_names("v/") if point_id(2) in n]
    put = lab.store.put

    def stall(name, parts):
        if name.endswith(".pt"):
            condemn(lab, 1, *mine)
        return put(name, parts)

    lab.store.put = stall
    with pytest.raises(CondemnedError, match="not relied on"):
        sink.commit(facts)
    sink.abort()  # the point stands: what it names must not be removed
    lab.store.put = put
    head = lab.writer.newest(VOLUME)
    assert head.point_id == point_id(2)
    assert all(name in lab.store.objects for name in mine)
    assert lab.writer.wanted(VOLUME).afresh
    lab.commit(number=3)
    assert not lab.writer.wanted(VOLUME).afresh
    lab.check_all()


def test_a_point_that_the_mark_has_seen_is_sound(lab):
    name = lab.kept[0][0].name
    condemn(lab, 1, own(1), newest_seq=1)
    assert not is_base_tainted(lab.store, lab.keys.source, VOLUME, name, 0)
    condemn(lab, 2, own(1), newest_seq=0)
    assert not is_base_tainted(lab.store, lab.keys.source, VOLUME, name, 0)
    assert not lab.writer.wanted(VOLUME).afresh


def test_a_volume_without_points_has_nothing_tainted():
    lab = Lab()
    assert not lab.writer.wanted(VOLUME).afresh
