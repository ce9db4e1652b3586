"""Packs on their way: how many at once, in which order they are told, and what goes wrong."""

from __future__ import annotations

import threading
import time

import pytest

from blocksnapd.errors import StoreError
from blocksnapd.store.files import LocalStore
from blocksnapd.store.pack_sender import PACKS_IN_FLIGHT
from tests.fakes.memory_objects import MemoryObjects
from tests.store.support import Lab, check_image


class Slow(MemoryObjects):
    """Takes its time for packs, the first ones longest, and counts how many are under way."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = self.puts = 0
        self.guard2 = threading.Lock()
        self.fail_at = 0

    def put(self, name, parts):
        if not name.endswith(".pk"):
            return super().put(name, parts)
        with self.guard2:
            self.now, self.puts = self.now + 1, self.puts + 1
            self.most, turn = max(self.most, self.now), self.puts
        time.sleep(0.02 if turn % 2 else 0.005)
        try:
            if turn == self.fail_at:
                raise StoreError("connection reset")
            return super().put(name, parts)
        finally:
            with self.guard2:
                self.now -= 1


@pytest.fixture
def lab(monkeypatch) -> Lab:
    monkeypatch.setattr("blocksnapd.store.pack_writer.BATCH_SIZE", 65536)
    monkeypatch.setattr("blocksnapd.store.pack_writer.PACK_SIZE_TARGET", 60_000)
    monkeypatch.setattr("blocksnapd.store.sink.INLINE_SIZE_MAX", 40_000)
    return Lab(store=Slow(), blocks=400)


def test_several_are_under_way_and_never_more(lab):
    """They end out of order; the point names them in theirs, or no block would be found."""
    lab.write(range(400), noise=True)
    point = lab.commit()
    assert lab.store.most == PACKS_IN_FLIGHT
    assert lab.store.puts > 10
    check_image(lab.reader, point, lab.bytes())
    assert lab.reader.verify(point).is_whole


@pytest.mark.parametrize("turn", [1, 2, 5, 24])
def test_one_that_fails_ends_the_session_and_nothing_stays(lab, turn):
    lab.write(range(400), noise=True)
    lab.store.fail_at = turn
    sink = lab.sink(1)
    with pytest.raises(StoreError, match="connection reset"):
        give(lab, sink)
    sink.abort()
    assert lab.store.list_names("v/") == []
    assert lab.store.puts <= turn + PACKS_IN_FLIGHT  # it is noticed soon
    assert lab.commit().shipped_bytes == 400 * 4096


def give(lab: Lab, sink) -> None:
    lab.feed(sink, range(400))
    sink.commit(lab.facts("full", 1))


def test_a_place_that_hangs_holds_the_writer_back(lab, tmp_path):
    """However slow it is, what is in memory is a few packs: the writer waits."""
    gate, puts = threading.Event(), []

    class Gated(LocalStore):
        def put(self, name, parts):
            puts.append(name)
            gate.wait(20)
            return super().put(name, parts)

    (tmp_path / "r").mkdir()
    local = LocalStore(str(tmp_path / "r"))
    lab = Lab(store=local, blocks=400)
    lab.write(range(400), noise=True)
    lab.store = Gated(local.url)
    lab.reopen()
    sink = lab.sink(1)
    feeding = threading.Thread(target=give, args=(lab, sink))
    feeding.start()
    feeding.join(0.5)
    assert feeding.is_alive()
    assert len(puts) == PACKS_IN_FLIGHT
    gate.set()
    feeding.join(20)
    assert not feeding.is_alive()
