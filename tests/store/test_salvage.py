"""What of a damaged image is lost and what is not, with real packs really damaged."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocksnapd.errors import ChecksumError, StoreMissingError
from blocksnapd.store.names import packs_prefix
from blocksnapd.store.runs import Runs, expand
from blocksnapd.store.salvage import (
    PROBLEMS_MAX,
    Damage,
    LeftOut,
    find_damage,
    packs_of,
    spoiled,
    spoils,
)
from tests.store.support import BLOCK, VOLUME, Lab
from tests.store.test_redirect import FakeMap


def quiet(_done: int, _total: int) -> None: ...


def packs(lab: Lab) -> list[str]:
    return [n for n in lab.store.list_names(packs_prefix(VOLUME)) if n.endswith(".pk")]


def flip(lab: Lab, name: str, at: int) -> None:
    """Change one byte of an object."""
    data = bytearray(lab.store.get(name, size_max=1 << 30))
    data[at] ^= 1
    lab.store.delete(name)
    lab.store.put(name, [bytes(data)])


def blocks_of(runs: Runs) -> list[int]:
    return [b for s, e in zip(runs.starts, runs.ends, strict=True) for b in range(int(s), int(e))]


def two_points() -> Lab:
    """A full point of 1,000 blocks with holes, in frames of 64; a second that changed a few."""
    lab = Lab(blocks=1000, size=1000 * BLOCK - 100)
    lab.write([b for b in range(1000) if b % 10], noise=True)
    lab.commit()
    lab.write(range(100, 500), noise=True)  # more than a point holds by itself
    lab.zero(range(600, 620))
    lab.commit([*range(100, 500), *range(600, 620)])
    assert len(packs(lab)) == 2
    return lab


def opened(lab: Lab, number: int):
    lab.reopen()
    return lab.reader.open_image(lab.kept[number][0])


def check_rest(lab: Lab, number: int, damage: Damage) -> list[int]:
    """Compare everything that is not lost with what was remembered; return what is."""
    point, content = lab.kept[number]
    image, lost = opened(lab, number), blocks_of(damage.lost)
    wanted = bytearray(content)
    for block in lost:
        wanted[block * BLOCK : (block + 1) * BLOCK] = bytes(
            len(wanted[block * BLOCK : (block + 1) * BLOCK])
        )
    rest = image.without(damage.lost, damage.unmapped)
    whole, padded = bytearray(len(content)), bytearray(1000 * BLOCK)
    rest.read_into(0, memoryview(whole))
    assert whole == wanted
    for blocks, data in rest.pieces():
        for row, block in enumerate(blocks.tolist()):
            padded[block * BLOCK : (block + 1) * BLOCK] = data[row * BLOCK : (row + 1) * BLOCK]
    assert padded[: len(content)] == wanted
    assert rest.data_extents().size == rest.data_size()
    assert rest.point == point
    return lost


def test_a_whole_image_has_lost_nothing() -> None:
    lab, told = two_points(), list[tuple[int, int]]()
    damage = opened(lab, 1).damage(lambda done, total: told.append((done, total)))
    assert not damage
    assert (damage.problems, damage.slots) == ([], {})
    content = sum(1 for b in lab.image.any(axis=1) if b)
    assert told[-1] == (content, content)
    assert told == sorted(told)
    assert check_rest(lab, 1, damage) == []


def test_one_byte_loses_its_frame_and_no_more() -> None:
    lab = two_points()
    largest = max(packs(lab), key=lab.store.size)
    flip(lab, largest, lab.store.size(largest) // 2)
    first, second = (opened(lab, n).damage(quiet) for n in (0, 1))
    lost = check_rest(lab, 0, first)
    assert 0 < len(lost) <= 64
    assert list(first.slots) == [largest]
    assert largest in first.problems[0]
    changed = set(range(100, 500)) | set(range(600, 620))
    assert check_rest(lab, 1, second) == sorted(set(lost) - changed)
    with pytest.raises(ChecksumError):
        list(opened(lab, 0).pieces())


def test_a_pack_that_is_gone_loses_all_it_held() -> None:
    lab = two_points()
    newest = min(packs(lab), key=lab.store.size)
    lab.store.delete(newest)
    damage = opened(lab, 1).damage(quiet)
    assert check_rest(lab, 1, damage) == list(range(100, 500))
    assert not opened(lab, 0).damage(quiet)
    first, second = (opened(lab, n).map for n in (0, 1))
    assert (spoils(first, damage.slots), spoils(second, damage.slots)) == (False, True)
    assert not spoils(second, {newest: np.zeros(0, np.intp)})
    assert blocks_of(spoiled(second, damage.slots)) == list(range(100, 500))
    assert blocks_of(spoiled(second, {newest: damage.slots[newest][5:9]})) == [105, 106, 107, 108]
    assert (packs_of(first), packs_of(second)) == (set(packs(lab)), {newest, *packs(lab)})
    with pytest.raises(StoreMissingError):
        list(opened(lab, 1).pieces())


class HalfBlind(FakeMap):
    """A map that cannot be read in its middle window."""

    def windows(self):
        yield from ((0, 40), (40, 60), (60, 100))

    def content(self, first: int, end: int) -> Runs:
        if first < 60 and end > 40:
            raise ChecksumError("this part of the layer is damaged")
        return super().content(first, end)


def test_where_the_map_is_lost_all_is_lost_and_not_asked_for_again() -> None:
    lab = Lab()
    blind = HalfBlind([(10, 80, 0, 0)])
    damage = find_damage(blind, 95, lab.store, lab.keys, quiet)  # there are no such packs either
    assert blocks_of(damage.unmapped) == list(range(40, 60))
    assert blocks_of(damage.lost) == list(range(10, 90))
    assert damage.problems[1] == "blocks 40 to 60: this part of the layer is damaged"
    rest = LeftOut(blind, damage.unmapped, damage.unmapped)
    assert blocks_of(rest.content(0, 100)) == [*range(10, 40), *range(60, 90)]
    assert list(rest.windows()) == list(blind.windows())
    assert (rest.depth, rest.problems) == (3, ("something",))
    assert rest.places is blind.places
    everything = find_damage(HalfBlind([]), 50, lab.store, lab.keys, quiet)
    assert blocks_of(everything.lost) == list(range(40, 50)), "not beyond the image's end"


def test_looking_can_be_stopped_and_words_are_bounded() -> None:
    lab = two_points()

    def stop(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        opened(lab, 1).damage(stop)
    damage = Damage()
    for number in range(PROBLEMS_MAX + 5):
        damage.note(str(number))
    assert len(damage.problems) == PROBLEMS_MAX


@given(
    st.lists(st.tuples(st.integers(0, 90), st.integers(1, 30)), max_size=6),
    st.sets(st.integers(0, 99)),
    st.integers(0, 100),
    st.integers(0, 100),
)
@settings(deadline=None)
def test_blocks_left_out_against_sets(
    rows: list[tuple[int, int]], out: set[int], first: int, end: int
) -> None:
    disjoint, at = [], 0
    for start, length in sorted(rows):
        if start >= at:
            disjoint.append((start, length, 0, start + 7))
            at = start + length
    under, left = FakeMap(disjoint), np.array(sorted(out), np.uint64)
    rest = LeftOut(under, Runs.zeros(left, np.ones(len(left), np.uint64)))
    found = dict(
        zip(*(c.tolist() for c in expand(rest.content(first, max(first, end)))), strict=True)
    )
    wanted = {b: b + 7 for s, n, _, _ in disjoint for b in range(s, s + n)}
    assert found == {b: w for b, w in wanted.items() if first <= b < end and b not in out}


def test_damage_anywhere_in_any_pack_is_found_exactly() -> None:
    """Single bytes at random: what can be read is not given up, what is given is right."""
    dice, lab = random.Random(5), two_points()
    for _ in range(15):
        name = dice.choice(packs(lab))
        at = dice.randrange(lab.store.size(name))
        flip(lab, name, at)
        lost = [check_rest(lab, n, opened(lab, n).damage(quiet)) for n in (0, 1)]
        assert len(lost[0]) <= 64 or at > lab.store.size(name) - 20_000, "or its table is gone"
        flip(lab, name, at)
        assert not opened(lab, 1).damage(quiet)
