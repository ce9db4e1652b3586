"""Two points never come into one place: whoever puts one there has its turn before it looks."""

from __future__ import annotations

import pytest

from blocksnapd.errors import ObjectExistsError, StoreError, StoreFullError
from blocksnapd.receive.turns import TURN_S_MAX, Turns
from blocksnapd.store.names import point_name
from tests.fakes.memory_objects import MemoryObjects

MINE, OTHER, NEXT = (
    point_name("vol", seq, f"p{number:016x}") for seq, number in ((5, 1), (5, 2), (6, 3))
)


class Folder(MemoryObjects):
    """The receivers' own folder; time goes when ``now`` does."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(clock=lambda: self.now)


@pytest.fixture
def folder() -> Folder:
    return Folder()


def test_a_turn_keeps_others_out_until_its_point_is_there(folder):
    a, b = Turns(folder), Turns(folder)
    with a.take("db01", MINE) as turn:
        with pytest.raises(StoreError, match="must wait") as caught:
            b.take("db01", OTHER)
        assert caught.value.transient  # the source tries again by itself
        with b.take("db01", NEXT), b.take("db02", OTHER):
            pass  # another place, another host
        with turn.landing():
            pass
    assert not folder.objects
    b.take("db01", OTHER)


def test_what_was_refused_keeps_nobody_waiting(folder):
    """Before its put, or by the bucket."""
    with pytest.raises(ObjectExistsError), Turns(folder).take("db01", MINE):
        raise ObjectExistsError("another one is there")
    assert not folder.objects
    with (
        pytest.raises(StoreFullError),
        Turns(folder).take("db01", MINE) as turn,
        turn.landing(),
    ):
        raise StoreFullError("no room")
    assert not folder.objects


def test_what_may_still_land_keeps_its_place(folder):
    """A put of unknown outcome: the same point may come again anywhere, another one may not."""
    turns = Turns(folder)
    with pytest.raises(StoreError), turns.take("db01", MINE) as turn, turn.landing():
        raise StoreError("no answer")
    with pytest.raises(StoreError):
        turns.take("db01", OTHER)
    with turns.take("db01", MINE):
        pass  # was refused this time: the first try may land all the same
    with pytest.raises(StoreError):
        turns.take("db01", OTHER)
    with turns.take("db01", MINE) as again, again.landing():
        pass
    assert not folder.objects


def test_a_turn_whose_receiver_died_ends_by_the_clock(folder):
    turns = Turns(folder)
    turns.take("db01", MINE)
    folder.now = TURN_S_MAX
    with pytest.raises(StoreError):
        turns.take("db01", OTHER)
    folder.now += 1
    with turns.take("db01", OTHER), pytest.raises(StoreError):
        turns.take("db01", MINE)  # it is the other one's now
    with pytest.raises(StoreError), turns.take("db01", OTHER):
        raise StoreError("refused")
    with turns.take("db01", OTHER) as turn, turn.landing():
        pass  # its round was over, the dead one's still is
    assert not folder.objects


def test_whatever_a_turn_says_somebody_has_it(folder):
    folder.put(f"turns/db01/vol/{5:016x}-00", [b"\xff\x00 whatever"])
    with pytest.raises(StoreError, match="must wait"):
        Turns(folder).take("db01", MINE)
