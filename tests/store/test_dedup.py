"""Points that refer to content of the session and of the newest point: read, verified, counted."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np
import pytest

from blocksnapd.errors import BlocksnapError, RepositoryFormatError
from blocksnapd.store import pack_writer, pieces
from tests.fakes.remembered import Remembered
from tests.store.support import BLOCK, VOLUME, Lab, check_image, point_id


@dataclass
class DedupLab(Lab):
    """A lab whose source remembers where the content of its newest point lies."""

    known: Remembered = field(default_factory=Remembered)
    found: int = 0

    def sink(self, number: int, base="newest"):
        if base == "newest":
            base = self.writer.newest(VOLUME)
        return self.writer.begin(
            VOLUME, point_id(number), block_size=self.block_size, base=base, known=self.known
        )

    def commit(self, changed=None, *, number: int | None = None, batch: int = 7):
        """Commit as ``Lab`` does, and remember; a full point starts without any memory."""
        number = len(self.kept) + 1 if number is None else number
        full = changed is None
        if full:
            self.found += self.known.found
            self.known = Remembered()
            changed = np.flatnonzero(self.image.any(axis=1))
        sink = self.sink(number)
        self.feed(sink, changed, batch=batch)
        facts = self.facts("full" if full else "delta", number)
        records = sink.finish(facts)
        point = sink.commit(facts)
        zeros = [b for b in np.asarray(changed).tolist() if not self.image[b].any()]
        self.known.committed(records, zeros, full=full, blocks=self.blocks)
        self.kept.append((point, self.bytes()))
        return point

    def copy(self, to, source) -> np.ndarray:
        """Give blocks ``to`` the content of ``source``; return them."""
        self.image[np.asarray(to)] = self.image[np.asarray(source)]
        self.image.reshape(-1)[self.size :] = 0
        return np.asarray(to)

    def check_whole(self) -> None:
        """Read and verify all; what each point says of itself is what its objects take."""
        self.check_all()
        for point, _ in self.kept:
            report = self.reader.verify(point)
            assert report.is_whole, report.problems
            read = [check.name for check in report.objects]
            assert len(read) == len(set(read)), "a pack was read for each point that refers to it"
            assert self.reader.load_point(point.name) == point
        objects = self.store.list_names("v/")
        assert sum(p.stored_bytes for p, _ in self.kept) == sum(map(self.store.size, objects))


@pytest.fixture
def lab() -> DedupLab:
    return DedupLab(blocks=400)


def test_content_of_a_session_is_stored_once(lab):
    lab.write(range(10, 60), noise=True)
    lab.copy(range(100, 150), range(10, 60))
    lab.copy([200, 201, 202, 390], [10, 10, 10, 59])
    point = lab.commit()
    assert point.shipped_bytes == 50 * BLOCK
    assert point.deduplicated_bytes == 54 * BLOCK
    lab.check_whole()


def test_one_content_everywhere_takes_one_block(lab):
    """More blocks of one frame than fit a piece of reading, and in no order of slots."""
    lab.write(range(3), noise=True)
    others = np.setdiff1d(np.arange(3, 400), [77, 78])
    lab.copy(others, others % 3)
    point = lab.commit(batch=64)
    assert point.shipped_bytes == 3 * BLOCK
    assert pieces.PIECE_SIZE < 397 * BLOCK
    lab.check_whole()


def test_moved_content_is_referred_to_wherever_it_lies(lab, monkeypatch):
    """In packs of their own, in the pack inside a point, one session or several before."""
    monkeypatch.setattr(pack_writer, "PACK_SIZE_TARGET", 300_000)
    monkeypatch.setattr(pack_writer, "BATCH_SIZE", 65536)
    lab.write(range(200), noise=True)
    lab.commit()
    assert len(lab.store.list_names(f"v/{VOLUME}/d/")) == 2  # and one inline
    inline = lab.commit(lab.write(range(200, 220), noise=True))
    assert inline.stored_bytes == lab.store.size(inline.name)
    moved = lab.copy(range(250, 390), range(85, 225))
    changed = np.union1d(moved, lab.write([0, 220, 299], noise=True))
    third = lab.commit(changed)
    assert third.shipped_bytes == 3 * BLOCK
    fourth = lab.commit(lab.copy([5, 6, 7, 8], [299, 300, 205, 0]))
    assert fourth.shipped_bytes == 0
    assert fourth.stored_bytes == lab.store.size(fourth.name)
    lab.check_whole()


def test_what_the_session_overwrites_may_still_be_referred_to(lab):
    lab.write(range(50), noise=True)
    lab.commit()
    kept = lab.image[:50].copy()
    lab.write(range(50), noise=True)
    lab.image[100:150] = kept
    point = lab.commit(np.r_[0:50, 100:150])
    assert point.shipped_bytes == 50 * BLOCK
    lab.check_whole()


def test_what_was_gone_is_stored_again(lab):
    """Zeroed or cut off in between, it is of no listed newest point: never referred to."""
    lab.write(range(50), noise=True)
    lab.commit()
    kept = lab.image[:50].copy()
    lab.commit(lab.zero(range(25)))
    lab.resize(40 * BLOCK)
    lab.commit()
    lab.resize(300 * BLOCK)
    lab.image[200:250] = kept
    point = lab.commit(range(200, 250))
    assert point.shipped_bytes == 35 * BLOCK  # blocks 25 to 39 were still there
    lab.check_whole()


def test_a_full_restart_refers_to_nothing_older(lab):
    lab.write(range(50), noise=True)
    lab.copy(range(60, 70), range(10))
    lab.commit()
    full = lab.commit()
    assert full.shipped_bytes == 50 * BLOCK
    packs = lab.reader._reader().load(full.name).body.packs
    assert all(full.facts.point_id in pack.name for pack in packs)
    lab.commit(lab.copy(range(100, 110), range(60, 70)))
    for name in [p.name for p, _ in lab.kept[:1]]:
        lab.store.delete(name)
    del lab.kept[0]
    lab.check_all()


@pytest.mark.parametrize("seed", range(8))
def test_a_random_life(seed, monkeypatch):
    """Copies, moves, zeros, resizes, aborts and full restarts; every point reads right."""
    monkeypatch.setattr(pack_writer, "PACK_SIZE_TARGET", 100_000)
    monkeypatch.setattr(pack_writer, "BATCH_SIZE", 65536)
    dice = random.Random(seed)
    lab = DedupLab(blocks=120)
    for _ in range(14):
        changed: set[int] = set()
        if dice.random() < 0.15:
            before = lab.blocks
            lab.resize(dice.randrange(30, 160) * BLOCK + dice.choice([0, 512]))
            grown = lab.blocks >= before
        else:
            grown = True
        for _ in range(dice.randrange(4)):
            some = dice.sample(range(lab.blocks), dice.randrange(1, 25))
            deed = dice.random()
            if deed < 0.4:
                changed.update(lab.write(some, noise=dice.random() < 0.5).tolist())
            elif deed < 0.85:
                changed.update(lab.copy(some, dice.choices(range(lab.blocks), k=len(some))))
            else:
                changed.update(lab.zero(some).tolist())
        # What a changed size does to the last block is found by the compare that follows it.
        changed.add(lab.blocks - 1)
        if dice.random() < 0.2:
            sink = lab.sink(1000)
            lab.feed(sink, sorted(changed))
            sink.abort()
            lab.known.abandoned()
        full = not lab.kept or not grown or dice.random() < 0.1
        lab.commit(None if full else sorted(changed), batch=dice.choice([3, 7, 50]))
    lab.check_whole()
    assert lab.found + lab.known.found


def test_a_source_that_remembers_wrong_is_found_out(lab):
    """Should a place be stale after all: the sums of verify tell, without reading content."""
    lab.write(range(50), noise=True)
    lab.commit()
    moved = lab.copy([100], [7])
    index = lab.known._index
    rows = {block: row for block, (row, _) in lab.known.places.items()}
    index[rows[7]] = index[rows[8]]
    point = lab.commit(moved)
    report = lab.reader.verify(point, data=False)
    assert not report.is_whole
    assert "do not add up" in report.problems[0]


@pytest.mark.parametrize("record", [b"", b"\x98", b"no record"])
def test_a_damaged_memory_of_a_pack_commits_nothing(lab, record):
    lab.write(range(50), noise=True)
    lab.commit()
    lab.known.packs[0] = record
    with pytest.raises(RepositoryFormatError):
        lab.commit(lab.copy([100], [7]))


def test_a_slot_beyond_its_pack_commits_nothing(lab):
    lab.write(range(50), noise=True)
    lab.commit()
    lab.known._index = {row: place + 5000 for row, place in lab.known._index.items()}
    with pytest.raises(BlocksnapError, match="outside its packs"):
        lab.commit(lab.copy([100], [7]))


def test_facts_are_those_of_finish_and_the_lock_goes_with_an_abort(lab):
    lab.write(range(5))
    sink = lab.sink(1)
    lab.feed(sink, range(5))
    records = sink.finish(lab.facts("full", 1))
    assert len(records) == 1
    assert lab.writer.newest(VOLUME) is None
    sink.abort()
    assert lab.store.list_names("v/") == []
    point = lab.commit()
    check_image(lab.reader, point, lab.bytes())
