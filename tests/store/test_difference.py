"""What turns one image into another: applied to remembered bytes, and no more than needed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blocksnapd.errors import ChecksumError
from blocksnapd.model import Extents
from blocksnapd.store import difference
from blocksnapd.store.difference import Difference
from tests.store.support import BLOCK, Lab

BLOCKS = 120


def extents(ranges: list[tuple[int, int]]) -> Extents:
    array = np.array(ranges, dtype=np.uint64).reshape(-1, 2)
    return Extents(array[:, 0], array[:, 1])


def applied(lab: Lab, found: int, wanted: int, also: Extents | None = None) -> tuple[bytes, set]:
    """Return point ``found`` with the difference to ``wanted`` written over it, and its blocks."""
    points = lab.kept
    images = [lab.reader.open_image(points[n][0]) for n in (found, wanted)]
    now, touched = bytearray(points[found][1]), set()
    size = len(now)
    for start, end in (
        zip(*(a.tolist() for a in (also.starts, also.ends)), strict=True)
        if (also is not None)
        else ()
    ):
        now[start:end] = b"\xee" * (end - start)  # whatever it is now, it is to be overwritten

    def write(blocks: np.ndarray, data: memoryview) -> None:
        for at, block in enumerate(blocks.tolist()):
            piece = data[at * BLOCK : (at + 1) * BLOCK][: size - block * BLOCK]
            now[block * BLOCK : block * BLOCK + len(piece)] = piece
            assert block not in touched
            touched.add(block)

    for part in Difference(*images, *([also] if also else [])).parts():
        covered = {
            block
            for start, end in zip(part.extents.starts.tolist(), part.extents.ends.tolist(),
                                  strict=True)
            for block in range(start // BLOCK, -(-end // BLOCK))
        }  # fmt: skip
        before = set(touched)
        list(part.each_piece(write))
        for start, end in zip(part.zero_extents.starts.tolist(), part.zero_extents.ends.tolist(),
                              strict=True):  # fmt: skip
            now[start:end] = bytes(end - start)
            touched |= set(range(start // BLOCK, -(-end // BLOCK)))
        assert touched - before == covered
        assert part.extents.size == part.content_extents.size + part.zero_extents.size
    return bytes(now), touched


def different(one: bytes, other: bytes) -> set[int]:
    size = max(len(one), len(other))
    one, other = one.ljust(size, b"\0"), other.ljust(size, b"\0")
    return {
        at // BLOCK
        for at in range(0, size, BLOCK)
        if one[at : at + BLOCK] != other[at : at + BLOCK]
    }


blocks = st.sets(st.integers(0, BLOCKS - 1), max_size=40)
steps = st.lists(st.tuples(blocks, blocks, st.booleans()), min_size=1, max_size=4)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps, blocks, st.data())
def test_applied_it_is_the_wanted_point_and_touches_only_what_differs(
    monkeypatch, life, also, data
):
    monkeypatch.setattr(difference, "STEP_BLOCKS", 7)
    monkeypatch.setattr("blocksnapd.store.stack.WINDOW_RUNS_MAX", 9)
    lab = Lab(blocks=BLOCKS)
    lab.write(range(10, 100), noise=True)
    lab.commit()
    for written, zeroed, is_full in life:
        changed = np.union1d(lab.write(sorted(written)), lab.zero(sorted(zeroed)))
        lab.commit(None if is_full else changed)
    found, wanted = (data.draw(st.integers(0, len(lab.kept) - 1)) for _ in range(2))
    extra = extents([(block * BLOCK, (block + 1) * BLOCK) for block in sorted(also)])
    result, touched = applied(lab, found, wanted, extra)
    assert result == lab.kept[wanted][1]
    assert touched == different(lab.kept[found][1], lab.kept[wanted][1]) | also


@pytest.mark.parametrize("size", [40 * BLOCK - 512, 40 * BLOCK, 37 * BLOCK + 1024])
def test_what_grew_is_zero_behind_the_wanted_image(size: int) -> None:
    lab = Lab(blocks=60, size=size)
    lab.resize(size)
    lab.write(range(lab.blocks))
    lab.commit()
    lab.resize(60 * BLOCK - 1536)
    lab.commit(np.union1d(lab.write(range(38, 60)), lab.write([3])))
    result, _ = applied(lab, 1, 0)
    assert result == lab.kept[0][1].ljust(60 * BLOCK - 1536, b"\0")


def test_equal_content_at_another_place_is_equal() -> None:
    lab = Lab(blocks=50)
    lab.write(range(50), noise=True)
    lab.commit()
    lab.commit()  # all of it once more, into packs of its own
    lab.commit(lab.write([7]))
    assert applied(lab, 0, 1) == (lab.kept[0][1], set())
    assert applied(lab, 2, 0)[1] == {7}


@pytest.mark.parametrize("kept", [0, 20, 1000])
def test_asked_again_it_tells_the_same(kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(difference, "KEPT_RUNS_MAX", kept)
    monkeypatch.setattr("blocksnapd.store.stack.WINDOW_RUNS_MAX", 9)
    lab = Lab(blocks=BLOCKS)
    lab.write(range(BLOCKS), noise=True)
    lab.commit()
    lab.commit(np.union1d(lab.write(range(0, BLOCKS, 3)), lab.zero(range(1, BLOCKS, 6))))
    apart = Difference(*(lab.reader.open_image(lab.kept[at][0]) for at in (0, 1)))
    next(apart.parts())  # given up half-way

    def told() -> list[tuple[list[int], list[int]]]:
        parts = [(part.content_extents, part.zero_extents) for part in apart.parts()]
        return [(one.starts.tolist(), other.starts.tolist()) for one, other in parts]

    first = told()
    assert len(first) > 1
    assert told() == told() == first
    assert sum(len(content) + len(zero) for content, zero in first) == BLOCKS // 3 + BLOCKS // 6


def test_extents_that_rounding_makes_overlap() -> None:
    lab = Lab(blocks=20)
    lab.write(range(20))
    lab.commit()
    also = extents([(512, 1024), (2048, 5000), (5512, 6000), (9 * BLOCK, 9 * BLOCK + 1)])
    assert applied(lab, 0, 0, also) == (lab.kept[0][1], {0, 1, 9})


def test_damage_of_what_decides_is_an_error() -> None:
    lab = Lab(blocks=50)
    lab.write(range(50), noise=True)
    lab.commit()
    lab.commit()
    images = [lab.reader.open_image(point) for point, _ in lab.kept]
    for name in lab.store.list_names(""):
        data = bytearray(lab.store.objects[name])
        data[-40] ^= 1
        lab.store.objects[name] = bytes(data)
    with pytest.raises(ChecksumError):
        list(Difference(*images).parts())
