"""A session that was cut goes on: nothing that arrived is sent again, and nothing is lost."""

from __future__ import annotations

import pytest

from blocksnapd.errors import CondemnedError, StoreError, StoreFullError
from blocksnapd.store.collection_format import Condemned
from blocksnapd.store.collection_lists import CollectionLists
from blocksnapd.store.pack_sender import PACKS_IN_FLIGHT
from tests.fakes.memory_objects import MemoryObjects
from tests.store.support import BLOCK, VOLUME, Lab, check_image, point_id

BLOCKS = 400


class Cut(MemoryObjects):
    """Breaks off at every put after so many; ``sent`` counts the bytes of packs that arrived."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.sent, self.error = 1 << 30, 0, StoreError("cut")

    def put(self, name, parts):
        if self.left <= 0:
            raise self.error
        self.left -= 1
        size = super().put(name, parts)
        self.sent += size if name.endswith(".pk") else 0
        return size


@pytest.fixture
def lab(monkeypatch, tmp_path) -> Lab:
    monkeypatch.setattr("blocksnapd.store.pack_writer.BATCH_SIZE", 65536)
    monkeypatch.setattr("blocksnapd.store.pack_writer.PACK_SIZE_TARGET", 60_000)
    monkeypatch.setattr("blocksnapd.store.sink.INLINE_SIZE_MAX", 40_000)
    lab = Lab(store=Cut(), blocks=BLOCKS)
    lab.log = str(tmp_path / "session")
    lab.write(range(BLOCKS), noise=True)
    lab.commit()
    lab.write(range(BLOCKS), noise=True)
    lab.store.sent = 0
    return lab


def begin(lab: Lab):
    base = lab.writer.newest(VOLUME)
    return lab.writer.begin(VOLUME, point_id(2), block_size=BLOCK, base=base, log=lab.log)


def attempt(lab: Lab, puts: int = 1 << 30, changed=range(BLOCKS)):
    """Ship and commit; the place breaks off after so many puts. Return the point, or None."""
    lab.store.left = puts
    sink = begin(lab)
    try:
        lab.feed(sink, changed)
        return sink.commit(lab.facts("delta", 2))
    except StoreError:
        sink.abort()
        return None
    finally:
        lab.store.left = 1 << 30


def give(lab: Lab, sink) -> None:
    lab.feed(sink, range(BLOCKS))
    sink.finish(lab.facts("delta", 2))


def check(lab: Lab, point) -> None:
    lab.reopen()
    check_image(lab.reader, point, lab.bytes())
    assert lab.reader.verify(point).is_whole
    assert lab.reader.load_point(point.name) == point


@pytest.mark.parametrize("puts", [0, 1, 2, 3, 7, 12, 16, 22, 23, 24, 25])
def test_cut_after_each_object_none_is_sent_again(lab, puts):
    assert attempt(lab, puts) is None
    before, there = lab.store.sent, set(lab.store.list_names("v/"))
    lab.reopen()
    point = attempt(lab)
    assert there < set(lab.store.list_names("v/"))
    # The pack that was being filled ends elsewhere now: its tables are a little smaller or larger.
    assert BLOCKS * BLOCK * 0.98 < lab.store.sent < BLOCKS * BLOCK * 1.1
    assert point.shipped_bytes + point.deduplicated_bytes == BLOCKS * BLOCK
    assert point.deduplicated_bytes >= before * 0.98
    check(lab, point)


def test_cut_again_and_again_it_gets_on(lab):
    for _ in range(40):
        point = attempt(lab, 2)
        lab.reopen()
        if point is not None:
            break
    assert point is not None
    assert lab.store.sent < BLOCKS * BLOCK * 1.2
    check(lab, point)


def test_what_changed_in_between_is_sent_and_the_old_is_not_taken_for_it(lab):
    assert attempt(lab, 15) is None
    lab.write(range(40, 90), noise=True)
    lab.zero(range(120, 130))
    point = attempt(lab)
    assert lab.store.sent < (BLOCKS + 50) * BLOCK * 1.15
    check(lab, point)


def test_the_end_of_it_is_a_point_of_its_own(lab, tmp_path):
    """The log goes with the commit, and the next point refers to all as to its own."""
    assert attempt(lab, 15) is None
    assert attempt(lab) is not None
    assert list(tmp_path.iterdir()) == []
    lab.kept.append((lab.reader.points(VOLUME)[-1], lab.bytes()))
    lab.commit(lab.write([1, 2, 300]))
    lab.check_all()


def test_packs_that_are_gone_or_other_since_are_sent_again(lab):
    assert attempt(lab, 15) is None
    own = [n for n in lab.store.list_names(f"v/{VOLUME}/d/") if point_id(2) in n]
    del lab.store.objects[own[2]]
    lab.store.objects[own[5]] += b"!"
    point = attempt(lab)
    check(lab, point)


def test_a_place_that_fails_when_asked_is_asked_again_later(lab):
    assert attempt(lab, 15) is None
    lab.store.size = lambda _: (_ for _ in ()).throw(StoreError("away"))
    assert attempt(lab) is None
    del lab.store.size
    point = attempt(lab)
    assert lab.store.sent < BLOCKS * BLOCK * 1.1
    check(lab, point)


def test_a_full_place_gets_its_room_back(lab):
    there = set(lab.store.list_names("v/"))
    lab.store.error = StoreFullError("no room")
    assert attempt(lab, 15) is None
    assert set(lab.store.list_names("v/")) == there


def test_a_session_that_was_killed_goes_on(lab):
    """SIGKILL: nothing is tidied up, and the log is as it was written."""
    lab.store.left = 15
    sink = begin(lab)
    with pytest.raises(StoreError):
        give(lab, sink)
    sink._sender.close(cancel=True)
    sink._lock.release()
    assert attempt(lab) is not None
    assert lab.store.sent < BLOCKS * BLOCK * 1.1


def test_a_collection_in_between_is_seen(lab):
    """To it this is one session that was slow: what was condemned since is not relied on."""
    assert attempt(lab, 15) is None
    own = [n for n in lab.store.list_names(f"v/{VOLUME}/d/") if point_id(2) in n]
    source = lab.keys.source
    CollectionLists(lab.store, source, VOLUME).put(
        Condemned(source.repository_id, VOLUME, 1, 0, 0, 1, packs=(own[3],))
    )
    lab.reopen()
    sink = begin(lab)
    assert sink._watch.epoch == 0  # not 1, as a session that begins now would note
    lab.feed(sink, range(BLOCKS))
    with pytest.raises(CondemnedError, match="not committed"):
        sink.commit(lab.facts("delta", 2))
    sink.abort()
    assert lab.writer.newest(VOLUME).seq == 1
    assert attempt(lab) is not None, "nobody goes on from what was refused"


def test_no_more_are_lost_than_were_under_way(lab):
    """What the cut takes is what was not there yet: the packs in flight and in the making."""
    assert attempt(lab, 20) is None
    there = sum(size(lab, n) for n in lab.store.list_names(f"v/{VOLUME}/d/") if point_id(2) in n)
    assert there == lab.store.sent
    assert attempt(lab) is not None
    assert lab.store.sent <= BLOCKS * BLOCK * 1.02 + PACKS_IN_FLIGHT * 5000 * 2


def size(lab: Lab, name: str) -> int:
    return lab.store.size(name)
