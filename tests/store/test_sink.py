"""Writing points: refusals, room, retries, and what is left behind."""

from __future__ import annotations

import resource
import threading

import numpy as np
import pytest

from blocksnapd.errors import (
    BusyError,
    KeyMissingError,
    ObjectExistsError,
    RefusedError,
    StoreError,
    StoreFullError,
    UsageError,
)
from blocksnapd.store import pack_writer
from blocksnapd.store.files import LocalStore
from blocksnapd.store.names import is_point_name
from tests.fakes.memory_objects import MemoryObjects
from tests.store.support import BLOCK, VOLUME, Lab, check_image, point_id


@pytest.fixture
def lab() -> Lab:
    lab = Lab(blocks=400)
    lab.write(range(10, 60))
    lab.commit()
    return lab


def names(lab: Lab) -> set[str]:
    return set(lab.store.list_names("v/"))


def give_all(lab: Lab, sink, changed) -> None:
    lab.feed(sink, changed)
    sink.commit(lab.facts("delta", 2))


class LostAnswer(MemoryObjects):
    """Puts an object and then says that it failed, once, when its name ends with ``ending``."""

    ending = "none"

    def put(self, name, parts):
        size = super().put(name, parts)
        if name.endswith(self.ending):
            self.ending = "none"
            raise StoreError("Input/output error")
        return size


def test_a_small_cycle_is_one_object(lab):
    before = names(lab)
    point = lab.commit(lab.write([1, 2, 3]))
    assert names(lab) - before == {point.name}
    assert point.stored_bytes == lab.store.size(point.name)
    assert point.shipped_bytes == 3 * BLOCK


def test_a_large_cycle_has_packs_and_every_byte_is_counted(lab):
    before = names(lab)
    point = lab.commit(lab.write(range(390), noise=True))
    new = names(lab) - before
    assert len(new) == 2
    assert point.stored_bytes == sum(lab.store.size(name) for name in new)
    assert point == lab.reader.load_point(point.name)
    # Noise is stored raw: identities, tags and tables are all that comes on top.
    assert point.stored_bytes < point.shipped_bytes * 1.01


def test_a_cycle_without_changes_is_a_point(lab):
    point = lab.commit([])
    assert point.shipped_bytes == 0
    assert point.stored_bytes < 1500
    lab.check_all()


def test_what_the_source_says_comes_back(lab):
    point = lab.commit(lab.write([1]))
    assert lab.reader.load_point(point.name).facts == lab.facts("delta", 2)
    assert lab.reader.points(VOLUME) == [p for p, _ in lab.kept]
    assert point.head == lab.writer.newest(VOLUME)
    assert (point.prev_name, point.prev_digest) == (lab.kept[0][0].name, lab.kept[0][0].digest)


def test_a_writer_reads_no_history(lab):
    """A source key finds its head and goes on; every way to content or layers is shut."""
    point = lab.kept[0][0]
    assert lab.writer.newest(VOLUME) == point.head
    for call in (
        lambda: lab.writer.load_point(point.name),
        lambda: lab.writer.points(VOLUME),
        lambda: lab.writer.open_image(point),
        lambda: lab.writer.verify(point),
    ):
        with pytest.raises(KeyMissingError, match=r"restore\.key"):
            call()
    secrets = (lab.keys.metadata_private, lab.keys.data_private)
    held = vars(lab.writer).values()
    assert not any(secret in str(value).encode() for secret in secrets for value in held)


def test_one_id_is_committed_once(lab):
    lab.commit(lab.write([1]), number=2)
    with pytest.raises(ObjectExistsError, match=point_id(2)):
        lab.sink(2)
    with pytest.raises(ObjectExistsError, match="place 2"):
        lab.sink(3, base=lab.kept[0][0].head)
    with pytest.raises(ObjectExistsError):
        lab.sink(3, base=None)
    assert lab.writer.newest(VOLUME).seq == 2


def test_a_base_that_is_gone_is_refused(lab):
    head = lab.commit(lab.write([1])).head
    lab.store.delete(head.name)
    with pytest.raises(ObjectExistsError, match="not the newest"):
        lab.sink(3, base=head)


def test_a_rival_that_slipped_past_the_lock_is_refused_at_commit(lab):
    sink = lab.sink(2)
    lab.feed(sink, lab.write([1]))
    rival = lab.kept[0][0].name.replace(
        "0000000000000001-p0000000000000001", "0000000000000002-p00000000000000ff"
    )
    lab.store.put(rival, [b"another writer's"])
    before = names(lab)
    with pytest.raises(ObjectExistsError, match="p00000000000000ff"):
        sink.commit(lab.facts("delta", 2))
    sink.abort()
    assert names(lab) == before


def test_one_writer_per_volume(lab):
    sink = lab.sink(2)
    with pytest.raises(BusyError):
        lab.sink(3)
    sink.abort()
    lab.sink(3).abort()


def test_refusals_let_the_lock_go(lab):
    with pytest.raises(ObjectExistsError):
        lab.sink(1)
    with pytest.raises(UsageError, match="blocks of 8192"):
        lab.writer.begin(VOLUME, point_id(2), block_size=8192, base=lab.writer.newest(VOLUME))
    for bad in ("p12", "q" + "0" * 16, "p" + "0" * 17, "../x"):
        with pytest.raises(UsageError, match="point id"):
            lab.writer.begin(VOLUME, bad, block_size=BLOCK, base=None)
    with pytest.raises(UsageError, match="name a volume"):
        lab.writer.begin("../x", point_id(2), block_size=BLOCK, base=None)
    lab.commit(lab.write([1]))


def test_an_abort_leaves_nothing(lab, monkeypatch):
    monkeypatch.setattr(pack_writer, "PACK_SIZE_TARGET", 300_000)
    monkeypatch.setattr(pack_writer, "BATCH_SIZE", 65536)
    before, threads = names(lab), threading.active_count()
    sink = lab.sink(2)
    lab.feed(sink, lab.write(range(400), noise=True))
    assert sink.shipped_bytes == 400 * BLOCK
    assert sink.stored_bytes > 600_000
    sink.abort()
    sink.abort()
    assert names(lab) == before
    assert threading.active_count() <= threads
    lab.commit(np.arange(400))
    lab.check_all()


def test_a_point_that_arrives_after_it_was_given_up_is_whole(lab, monkeypatch):
    """A put without an answer may still be under way: what its point names is not removed."""
    monkeypatch.setattr(pack_writer, "PACK_SIZE_TARGET", 300_000)
    monkeypatch.setattr(pack_writer, "BATCH_SIZE", 65536)
    late, put = [], lab.store.put

    def lose_points(name, parts):
        if not is_point_name(name):
            return put(name, parts)
        late.append((name, parts))
        raise StoreError("no answer")

    monkeypatch.setattr(lab.store, "put", lose_points)
    sink = lab.sink(2)
    lab.feed(sink, lab.write(range(400), noise=True))
    with pytest.raises(StoreError, match="no answer"):
        sink.commit(lab.facts("delta", 2))
    sink.abort()
    put(*late[0])
    point = lab.reader.load_point(late[0][0])
    check_image(lab.reader, point, lab.bytes())


def test_no_room_in_the_middle_of_a_pack_commits_nothing(tmp_path, monkeypatch):
    """The kernel refuses to let a file grow, as on a full disk; with room again all goes on."""
    monkeypatch.setattr(pack_writer, "PACK_SIZE_TARGET", 300_000)
    monkeypatch.setattr(pack_writer, "BATCH_SIZE", 65536)
    lab = Lab(store=LocalStore(str(tmp_path)), blocks=400)
    lab.write(range(10, 60))
    lab.commit()
    changed = lab.write(range(400), noise=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    sink = lab.sink(2)
    try:
        with pytest.raises(StoreFullError, match="no room") as error:
            give_all(lab, sink, changed)
        sink.abort()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "snapshot goes on tracking" in error.value.effect
    assert lab.writer.newest(VOLUME).seq == 1
    assert len(names(lab)) == 2 - (lab.store.children(f"v/{VOLUME}/") == ["p"])
    lab.commit(changed)
    lab.check_all()


@pytest.mark.parametrize("free", [0, 100_000, 700_000, 1_600_000])
def test_no_room_at_any_moment_commits_nothing(lab, monkeypatch, free):
    monkeypatch.setattr(pack_writer, "PACK_SIZE_TARGET", 300_000)
    monkeypatch.setattr(pack_writer, "BATCH_SIZE", 65536)
    changed = lab.write(range(400), noise=True)
    before = names(lab)
    lab.store.room = sum(map(len, lab.store.objects.values())) + free
    sink = lab.sink(2)
    with pytest.raises(StoreFullError):
        give_all(lab, sink, changed)
    sink.abort()
    assert names(lab) == before
    lab.store.room = None
    lab.commit(changed)
    lab.check_all()


def test_a_lost_answer_to_the_point_keeps_its_packs():
    """The point was written and the answer lost: aborting must not take its packs away."""
    lab = Lab(store=LostAnswer(), blocks=400)
    lab.write(range(400), noise=True)
    lab.store.ending = ".pt"
    sink = lab.sink(1)
    lab.feed(sink, np.arange(400))
    with pytest.raises(StoreError):
        sink.commit(lab.facts("full", 1))
    sink.abort()
    newest = lab.writer.newest(VOLUME)
    assert newest.point_id == point_id(1)
    point = lab.reader.load_point(newest.name)
    assert lab.reader.verify(point).is_whole
    with pytest.raises(ObjectExistsError):
        lab.sink(1, base=None)


def test_a_lost_answer_to_a_pack_commits_nothing():
    lab = Lab(store=LostAnswer(), blocks=400)
    lab.write(range(400), noise=True)
    lab.store.ending = ".pk"
    sink = lab.sink(1)
    lab.feed(sink, np.arange(400))
    with pytest.raises(StoreError):
        sink.commit(lab.facts("full", 1))
    sink.abort()
    assert names(lab) == set()


def test_a_full_point_that_does_not_add_up_is_refused():
    lab = Lab(blocks=20)
    lab.write(range(20))
    sink = lab.sink(1)
    lab.feed(sink, range(19))
    with pytest.raises(RefusedError, match="add up"):
        sink.commit(lab.facts("full", 1))
    sink.abort()
    assert names(lab) == set()


def test_a_layer_that_a_reader_would_refuse_is_not_written(lab):
    sink = lab.sink(2)
    lab.feed(sink, lab.write([5]))
    sink.add_zeros(np.array([5], dtype=np.uint64), np.array([1], dtype=np.uint64))
    before = names(lab)
    with pytest.raises(Exception, match="overlaps"):
        sink.commit(lab.facts("delta", 2))
    sink.abort()
    assert names(lab) == before


def test_memory_is_bounded_by_packs_not_by_the_image(lab, monkeypatch):
    """While a slow place writes one pack, the source waits instead of filling memory."""
    monkeypatch.setattr(pack_writer, "PACK_SIZE_TARGET", 200_000)
    monkeypatch.setattr(pack_writer, "BATCH_SIZE", 65536)
    gate, waiting = threading.Event(), threading.Event()
    put = lab.store.put

    def slow(name, parts):
        waiting.set()
        assert gate.wait(30)
        return put(name, parts)

    monkeypatch.setattr(lab.store, "put", slow)
    sink = lab.sink(2)
    changed = lab.write(range(400), noise=True)
    feeder = threading.Thread(target=lab.feed, args=(sink, changed))
    feeder.start()
    assert waiting.wait(30)
    feeder.join(0.3)
    taken = sink.shipped_bytes
    assert feeder.is_alive()
    # Two packs, each late to know its size by the batches in flight, and those batches.
    assert taken < 2 * (200_000 + 8 * 65536) + 8 * 65536
    gate.set()
    feeder.join()
    sink.commit(lab.facts("delta", 2))
