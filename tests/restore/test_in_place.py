"""Writing a difference over a volume in memory: every byte, bounded reads, and what goes wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.errors import CancelledRunError, ChecksumError
from blocksnapd.model import Extents
from blocksnapd.restore import in_place
from blocksnapd.restore.in_place import measure, spans, write_in_place
from tests.restore.memory_image import MemoryImage

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from blocksnapd.model import U64

T = TypeVar("T")
BLOCK = 4096


def as_extents(blocks: list[int], size: int) -> Extents:
    """Return the extents of ``blocks``, ascending, cut at ``size``."""
    runs: list[list[int]] = []
    for block in blocks:
        if runs and runs[-1][1] == block * BLOCK:
            runs[-1][1] = (block + 1) * BLOCK
        else:
            runs.append([block * BLOCK, (block + 1) * BLOCK])
    array = np.array(runs, dtype=np.uint64).reshape(-1, 2)
    return Extents(array[:, 0], np.minimum(array[:, 1], np.uint64(size)))


class MemoryVolume:
    """What is written to; ``reads`` tells each request when it is read back."""

    path = "/dev/memory"

    def __init__(self, content: bytes) -> None:
        self.content = bytearray(content)
        self.size = len(content)
        self.reads: list[int] = []
        self.synced = False
        self.flaw = -1

    def write(self, offset: int, data: memoryview) -> None:
        assert offset + len(data) <= self.size
        self.synced = False
        self.content[offset : offset + len(data)] = data

    def zero(self, extents: Extents) -> None:
        for start, end in zip(extents.starts.tolist(), extents.ends.tolist(), strict=True):
            self.write(start, memoryview(bytes(end - start)))

    def sync(self) -> None:
        self.synced = True
        if self.flaw >= 0:
            self.content[self.flaw] ^= 1

    def reader(self) -> MemoryVolume:
        assert self.synced
        return self

    def read_into(self, offset: int, view: memoryview) -> None:
        self.reads.append(len(view))
        view[:] = self.content[offset : offset + len(view)]

    def close(self) -> None: ...
    def __enter__(self) -> MemoryVolume:
        return self

    def __exit__(self, *_: object) -> None: ...


class Part:
    """The blocks ``chosen`` of an image."""

    def __init__(self, wanted: bytes, chosen: list[int]) -> None:
        self._size, self._chosen = len(wanted), chosen
        kept = bytearray(len(wanted))
        for block in chosen:
            kept[block * BLOCK : (block + 1) * BLOCK] = wanted[block * BLOCK : (block + 1) * BLOCK]
        self._image = MemoryImage(bytes(kept), seed=len(chosen))

    @property
    def extents(self) -> Extents:
        return as_extents(self._chosen, self._size)

    @property
    def zero_extents(self) -> Extents:
        full = set(self._image.blocks())
        return as_extents([block for block in self._chosen if block not in full], self._size)

    def each_piece(self, work: Callable[[U64, memoryview], T]) -> Generator[T, None, None]:
        yield from self._image.each_piece(work)


class Difference:
    """The blocks ``chosen`` of an image, in parts that begin at multiples of ``each``."""

    def __init__(self, wanted: bytes, chosen: list[int], each: int = 16) -> None:
        self._wanted, self._chosen, self._each = wanted, chosen, each

    def parts(self) -> Iterator[Part]:
        for number in sorted({block // self._each for block in self._chosen}):
            yield Part(self._wanted, [b for b in self._chosen if b // self._each == number])


def write(difference: Difference, volume: MemoryVolume, **more: object) -> int:
    found = measure(difference, BLOCK)
    given = {"progress": lambda _: None, "cancelled": lambda: False} | more
    done = write_in_place(
        difference, volume, block_size=BLOCK, size=found.size, **given  # type: ignore[arg-type]
    )  # fmt: skip
    assert done.written_bytes == found.size
    return done.written_bytes


def images(count: int, size: int) -> tuple[bytes, bytes]:
    dice = np.random.default_rng(count)
    now, then = (dice.integers(0, 256, size, dtype=np.uint8) for _ in range(2))
    then[5 * BLOCK : 9 * BLOCK] = 0
    return now.tobytes(), then.tobytes()


@given(st.sets(st.integers(0, 63)), st.sampled_from([64 * BLOCK, 64 * BLOCK - 512]))
def test_what_was_chosen_is_as_wanted_and_the_rest_as_before(chosen: set[int], size: int) -> None:
    now, then = images(3, size)
    volume = MemoryVolume(now)
    write(Difference(then, sorted(chosen)), volume)
    for block in range(64):
        place = slice(block * BLOCK, (block + 1) * BLOCK)
        assert volume.content[place] == (then if block in chosen else now)[place]


@pytest.mark.parametrize("chunk_size", [4096, 16384])
def test_measured_in_chunks(chunk_size: int) -> None:
    chosen = [0, 1, 3, 8, 15, 16, 40]
    found = measure(Difference(bytes(64 * BLOCK), chosen), chunk_size)
    chunks = {block * BLOCK // chunk_size for block in chosen}
    assert (found.size, found.chunk_bytes) == (7 * BLOCK, len(chunks) * chunk_size)
    assert found.extents == 6  # 15 and 16 are neighbours in two parts
    assert measure(Difference(bytes(BLOCK), []), chunk_size).size == 0


def test_what_the_volume_does_not_give_back(monkeypatch: pytest.MonkeyPatch) -> None:
    now, then = images(4, 64 * BLOCK)
    volume = MemoryVolume(now)
    volume.flaw = 33 * BLOCK + 7
    with pytest.raises(ChecksumError, match=f"first at bytes {33 * BLOCK}") as caught:
        write(Difference(then, [3, 6, 33]), volume)
    assert "/dev/memory" in caught.value.message
    volume.flaw = 6 * BLOCK  # which is to be zero
    with pytest.raises(ChecksumError, match="does not give back"):
        write(Difference(then, [3, 6, 33]), volume)
    monkeypatch.setattr(in_place, "PLACES_MAX", 1)
    volume.flaw = 3 * BLOCK
    with pytest.raises(ChecksumError, match=f"first at bytes {3 * BLOCK}"):
        write(Difference(then, [3, 33]), volume)


def test_packs_that_give_too_little() -> None:
    now, then = images(4, 64 * BLOCK)
    difference = Difference(then, [3, 40])

    class Short(Part):
        def each_piece(self, work: Callable[[U64, memoryview], T]) -> Generator[T, None, None]:
            yield from ()

    difference.parts = lambda: iter([Short(then, [3])])  # type: ignore[method-assign]
    with pytest.raises(ChecksumError, match="the packs gave 0"):
        write(difference, MemoryVolume(now))


def test_cancelled_while_it_writes_and_while_it_reads_back() -> None:
    now, then = images(4, 64 * BLOCK)
    looks = 0

    def cancelled_at(number: int) -> Callable[[], bool]:
        nonlocal looks
        looks = 0

        def look() -> bool:
            nonlocal looks
            looks += 1
            return looks == number

        return look

    for number in (1, 2, 4):
        with pytest.raises(CancelledRunError):
            write(Difference(then, [3, 40]), MemoryVolume(now), cancelled=cancelled_at(number))


@given(st.sets(st.integers(0, 6000), max_size=60))
def test_spans_hold_all_that_is_wanted_once_and_are_bounded(chosen: set[int]) -> None:
    blocks = sorted(chosen)
    found, last = [], -1
    for start, end, wanted in spans(as_extents(blocks, 6001 * BLOCK - 512), BLOCK):
        assert start > last
        last = end
        assert end - start <= in_place.STEP_SIZE
        assert start == int(wanted[0]) * BLOCK
        gaps = np.diff(wanted.astype(np.int64)) - 1
        assert not len(gaps) or gaps.max() * BLOCK <= in_place.GAP_SIZE_MAX
        found += wanted.tolist()
    assert found == blocks


def test_near_blocks_are_read_together() -> None:
    now, then = images(4, 64 * BLOCK)
    volume = MemoryVolume(now)
    write(Difference(then, list(range(0, 64, 2)), each=64), volume)
    assert volume.reads == [63 * BLOCK]
