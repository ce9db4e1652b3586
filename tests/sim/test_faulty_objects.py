"""The faulty place keeps its own promises: what it may lose, what it may not, and who is dead."""

from __future__ import annotations

import random

import pytest

from blocksnapd.errors import BusyError, ObjectExistsError, StoreError, StoreFullError
from blocksnapd.store.files import LocalStore
from tests.fakes.faulty_objects import EVERY, KINDS, Faults, Killed, Place
from tests.fakes.memory_objects import MemoryObjects


@pytest.fixture(params=["local", "memory"])
def inner(request, tmp_path):
    return LocalStore(str(tmp_path)) if request.param == "local" else MemoryObjects()


def process(place, kind, verb="put"):
    """Return a process whose first call goes wrong in just that way."""
    assert kind in KINDS[verb]
    return place.process(Faults(random.Random(1), {1}, kinds=frozenset([kind])))


def cut(place, times=1):
    for seed in range(times):
        place.cut_power(random.Random(seed))


def test_what_put_returned_from_survives_the_power(inner):
    place = Place(inner)
    place.process().put("v/a/x", [b"1"])
    cut(place, 20)
    assert place.process().get("v/a/x", size_max=9) == b"1"


def test_what_a_killed_put_left_may_go_unless_settled(inner):
    gone = 0
    for number in range(12):
        place, name = Place(inner), f"v/a/p/{number}"
        with pytest.raises(Killed):
            process(place, "after").put(name, [b"1"])
        assert inner.exists(name)
        place.cut_power(random.Random(number))
        gone += not inner.exists(name)
    assert 0 < gone < 12
    for number in range(20, 30):
        place, name = Place(inner), f"v/a/p/{number}"
        with pytest.raises(Killed):
            process(place, "after").put(name, [b"1"])
        place.process().settle("v/a/p/")
        place.cut_power(random.Random(number))
        assert inner.exists(name)


def test_settling_a_folder_settles_not_those_below(inner):
    place = Place(inner)
    with pytest.raises(Killed):
        process(place, "after").put("v/a/d/20260101/x", [b"1"])
    place.process().settle("v/a/d/")
    assert place.unsettled
    place.process().settle("v/a/d/20260101/")
    assert not place.unsettled


def test_what_a_killed_delete_removed_may_come_back(inner):
    back = 0
    for number in range(12):
        place, name = Place(inner), f"v/a/x{number}"
        inner.put(name, [b"12"])
        with pytest.raises(Killed):
            process(place, "after", "delete").delete(name)
        assert not inner.exists(name)
        place.cut_power(random.Random(number))
        back += inner.exists(name) and inner.get(name, size_max=2) == b"12"
    assert 0 < back < 12


def test_the_dead_hold_no_lock_and_do_nothing(inner):
    place = Place(inner)
    first = place.process()
    first.lock("v/a/")
    with pytest.raises(BusyError):
        place.process().lock("v/a/")
    first.die()
    with pytest.raises(Killed):
        first.put("v/a/x", [b""])
    place.process().lock("v/a/").release()
    assert not inner.exists("v/a/x")


@pytest.mark.parametrize(
    ("kind", "error", "there"),
    [("eio", StoreError, False), ("full", StoreFullError, False), ("kill", Killed, False),
     ("after", Killed, True), ("lost-ack", StoreError, True), ("twice", ObjectExistsError, True)],
)  # fmt: skip
def test_a_put_that_fails_leaves_all_or_nothing(inner, kind, error, there):
    store = process(Place(inner), kind)
    with pytest.raises(error):
        store.put("v/a/x", [b"1", b"2"])
    assert inner.exists("v/a/x") is there
    assert store.happened == [f"{kind} at put v/a/x"]


def test_a_list_can_shrink_and_a_read_can_be_wrong(inner):
    for number in range(10):
        inner.put(f"v/a/{number}", [b"12345678"])
    place = Place(inner)
    shrunk = process(place, "shrink", "list_names").list_names("v/a/")
    assert set(shrunk) < set(inner.list_names("v/a/"))
    assert process(place, "flip", "get").get("v/a/1", size_max=8) != b"12345678"
    assert inner.get("v/a/1", size_max=8) == b"12345678"


def test_a_liar_takes_empties_and_tears_what_it_promised(inner):
    sizes = set()
    place = Place(inner, lies=True)
    for number in range(40):
        place.process().put(f"v/a/{number}", [b"x" * 100])
    place.cut_power(random.Random(3))
    for number in range(40):
        sizes.add(inner.size(f"v/a/{number}") if inner.exists(f"v/a/{number}") else None)
    assert {None, 0, 100} < sizes


def test_every_kind_is_drawn_and_the_seed_decides():
    drawn = [Faults(random.Random(seed), {1}, kinds=EVERY).draw(verb, 1, 0)
             for seed in range(200) for verb in KINDS]  # fmt: skip
    assert set(drawn) == EVERY
    assert drawn == [Faults(random.Random(seed), {1}, kinds=EVERY).draw(verb, 1, 0)
                     for seed in range(200) for verb in KINDS]  # fmt: skip
    assert Faults(random.Random(1), changes={2}).draw("put", 9, 2)
    assert not Faults(random.Random(1), changes={2}).draw("get", 9, 2)
