"""Pieces: all content once, whatever the runs share, in threads that end when they are told."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from blocksnapd.blocks import hash_blocks
from blocksnapd.errors import RepositoryFormatError
from blocksnapd.store import pieces
from blocksnapd.store.pieces import by_pack, each_piece
from blocksnapd.store.runs import Runs
from tests.store.support import BLOCK, Lab


def runs(*triples: tuple[int, int, int]) -> Runs:
    """Return runs of (start, length, location)."""
    table = np.array(triples, dtype=np.uint64).reshape(-1, 3)
    return Runs(table[:, 0], table[:, 1], table[:, 2])


@pytest.fixture
def lab(monkeypatch) -> Lab:
    """A volume of 300 blocks of noise in five packs."""
    monkeypatch.setattr("blocksnapd.store.pack_writer.BATCH_SIZE", 65536)
    monkeypatch.setattr("blocksnapd.store.pack_writer.PACK_SIZE_TARGET", 250_000)
    made = Lab(blocks=300)
    made.write(range(300), noise=True)
    made.commit()
    return made


def read(lab: Lab, wanted: Runs, work=lambda blocks, data: (blocks.tolist(), bytes(data))):
    loaded = lab.reader._reader().load(lab.kept[0][0].name)
    return each_piece(wanted, loaded.places(), lab.store, lab.keys, work)


def content(lab: Lab, wanted: Runs) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for blocks, data in read(lab, wanted):
        for at, block in enumerate(blocks):
            assert block not in found
            found[block] = data[at * BLOCK : (at + 1) * BLOCK]
    return found


def test_each_pack_comes_once_with_its_runs_by_slot():
    mixed = runs((0, 2, 5), (4, 1, 1 << 32), (9, 3, 1), (20, 1, (1 << 32) + 7))
    found = [(pack, part.starts.tolist()) for pack, part in by_pack(mixed)]
    assert found == [(0, [9, 0]), (1, [4, 20])]
    assert not list(by_pack(Runs.empty()))


def test_any_choice_of_blocks_reads_back(lab):
    whole = lab.reader.open_image(lab.kept[0][0])._stack.content(0, 300)
    rng = np.random.default_rng(3)
    for share in (1.0, 0.5, 0.03):
        cuts = [whole.cut(n, n + 1) for n in range(300) if rng.random() < share]
        wanted = runs(*((int(c.starts[0]), 1, int(c.locations[0])) for c in cuts))
        found = content(lab, wanted)
        assert found == {n: lab.image[n].tobytes() for n in wanted.starts.tolist()}


def test_blocks_that_share_a_slot_all_come(lab, monkeypatch):
    """More of them than a piece has room for."""
    monkeypatch.setattr(pieces, "PIECE_SIZE", 16 * BLOCK)
    found = content(lab, runs(*((1000 + 2 * n, 1, 3) for n in range(100)), (5000, 2, 2)))
    assert len(found) == 102
    assert {found[1000 + 2 * n] for n in range(100)} == {found[5001]} == {lab.image[3].tobytes()}
    assert found[5000] == lab.image[2].tobytes()


def test_a_slot_that_is_not_there_is_an_error_of_the_format(lab):
    with pytest.raises(RepositoryFormatError, match="has no slot 4000"):
        list(read(lab, runs((0, 1, 4000))))


def test_what_the_work_raises_ends_it(lab):
    wanted = lab.reader.open_image(lab.kept[0][0])._stack.content(0, 300)

    def fail(blocks, data):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(read(lab, wanted, fail))


def test_once_closed_nothing_is_worked_on_any_more(lab):
    calls = []
    wanted = lab.reader.open_image(lab.kept[0][0])._stack.content(0, 300)

    def note(blocks, data):
        calls.append(threading.current_thread())
        return len(blocks)

    before = threading.active_count()
    done = read(lab, wanted, note)
    next(done)
    done.close()
    assert threading.active_count() <= before
    assert threading.current_thread() not in calls
    assert not any(thread.is_alive() for thread in calls)


def test_the_bytes_handed_to_the_work_are_those_of_its_blocks(lab):
    """Each is hashed in its thread, while others are at work in other memory."""
    key = lab.keys.source.hash_key
    wanted = lab.reader.open_image(lab.kept[0][0])._stack.content(0, 300)

    def identify(blocks, data):
        return blocks, hash_blocks(data, BLOCK, key)

    for blocks, hashes in read(lab, wanted, identify):
        assert (hashes == lab.hashes(blocks.astype(np.intp))).all()
