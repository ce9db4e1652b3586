"""What only receivers can do is tried again as all else is, and within the bandwidth."""

from __future__ import annotations

import pytest

from blocksnapd.errors import CondemnedError
from blocksnapd.store.looks import Looks
from blocksnapd.store.names import point_name
from blocksnapd.store.steady import Line, SteadyStore
from blocksnapd.store.steady_receiver import SteadyReceiver
from tests.fakes.memory_objects import MemoryObjects
from tests.receive.running import Dialer, Running
from tests.store.support import VOLUME, make_repository, point_id

NAME = point_name(VOLUME, 1, point_id(1))


@pytest.fixture
def receiver(tmp_path):
    with Running(tmp_path) as running:
        (running.root / "db01").mkdir()
        yield running


def test_lost_answers_are_asked_for_again(receiver):
    line, dialer = Line(), Dialer(receiver)
    store = SteadyReceiver(receiver.opened(dialer), line)
    make_repository(store)
    dialer.lost_answers = 3  # two tries of the first call
    assert store.look(VOLUME).repository
    dialer.lost_answers = 3
    assert store.put_point(NAME, [b"po", b"int"], epoch=0) == 0
    assert store.get(NAME, size_max=9) == b"point"
    assert line.counts().retries == 2
    assert line.counts().sent_bytes >= 5


def test_a_refusal_is_no_reason_to_try_again(receiver):
    line = Line()
    store = SteadyReceiver(receiver.store("maintainer"), line)
    with pytest.raises(CondemnedError, match="at epoch 0, not at 3"):
        store.put_point(NAME, [b"point"], epoch=3)
    assert (line.counts().retries, store.exists(NAME)) == (0, False)


def test_other_places_do_not_look():
    assert not isinstance(SteadyStore(MemoryObjects(), Line()), Looks)
