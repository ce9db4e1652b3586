"""Where two images of a volume differ, window by window, without reading their content. Edge.

What both maps place at the same spot is equal. Where they name different spots the identities
decide: the same content may lie twice in a repository. So the answer costs the metadata of both
points, and memory that goes with a window of their maps.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from blocksnapd.blocks import distinct
from blocksnapd.model import Extents
from blocksnapd.store.place_numbers import PlaceNumbers
from blocksnapd.store.redirect import joined_runs
from blocksnapd.store.runs import SLOT_BITS, SLOT_MASK, ZERO, Runs, expand, interleave, look_up

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from blocksnapd.model import U64
    from blocksnapd.store.image import Image

T = TypeVar("T")

STEP_BLOCKS = 1 << 18  # identities of so many blocks are compared at once
KEPT_RUNS_MAX = 1 << 18  # of a difference that is asked for again; 24 bytes each
_NO_EXTENTS = Extents.whole(0)


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """What differs in one window: runs with the content of ``wanted``, and runs that are zero."""

    wanted: Image
    content: Runs
    zero: Runs
    size: int

    @property
    def content_extents(self) -> Extents:
        """Bytes that have content in the wanted image; cut at the end of the other one."""
        return self._extents(self.content)

    @property
    def zero_extents(self) -> Extents:
        """Bytes that are zero in the wanted image and may not be in the other one."""
        return self._extents(self.zero)

    @property
    def extents(self) -> Extents:
        """Both of them."""
        return self._extents(interleave(self.content, self.zero))

    def each_piece(self, work: Callable[[U64, memoryview], T]) -> Generator[T, None, None]:
        """Yield what ``work`` returns for pieces of the content; see ``ports.PointImage``."""
        return self.wanted.pieces_of(self.content, work)

    def _extents(self, runs: Runs) -> Extents:
        if not len(runs):
            return _NO_EXTENTS
        apart = runs.starts[1:] != runs.ends[:-1]
        edge = np.ones(1, dtype=np.bool_)
        starts = runs.starts[np.concatenate([edge, apart])]
        ends = runs.ends[np.concatenate([apart, edge])]
        unit = np.uint64(self.wanted.block_size)
        return Extents(starts * unit, np.minimum(ends * unit, np.uint64(self.size)))


class Difference:
    """What has to be written over ``found`` so that it is ``wanted``.

    Args:
        found: what is there now. Its size counts: what it has behind the end of ``wanted``
            becomes zero.
        wanted: what shall be there; of the same block size, and not larger.
        also: bytes where ``found`` is not known to be what its image says.
    """

    def __init__(self, found: Image, wanted: Image, also: Extents = _NO_EXTENTS) -> None:
        assert found.block_size == wanted.block_size
        assert wanted.size <= found.size
        self._found, self._wanted = found, wanted
        self._packs = PlaceNumbers()  # of both images
        unit = np.uint64(found.block_size)
        self._also = _merged(also.starts // unit, (also.ends + unit - np.uint64(1)) // unit)
        self._kept: list[Part] | None = None  # all of it, if that is little

    def parts(self) -> Iterator[Part]:
        """Yield what differs, ascending; windows without a difference are left out.

        Raises:
            ChecksumError, RepositoryFormatError: what the repository says of one of the two is
                damaged. StoreError: the place failed.
        """
        if self._kept is not None:
            yield from self._kept
            return
        kept: list[Part] = []
        room = KEPT_RUNS_MAX
        for part in self._parts():
            room -= len(part.content) + len(part.zero)
            if room >= 0:
                kept.append(part)
            yield part
        if room >= 0:
            self._kept = kept

    def _parts(self) -> Iterator[Part]:
        end = -(-self._found.size // self._found.block_size)
        cuts = {edge for image in (self._found, self._wanted) for w in image.map.windows()
                for edge in w if edge < end}  # fmt: skip
        edges = sorted({0, end} | cuts)
        for first, stop in itertools.pairwise(edges):
            part = self._part(first, stop)
            if len(part.content) or len(part.zero):
                yield part

    def _part(self, first: int, end: int) -> Part:
        wanted = self._wanted.map.content(first, end)
        found = self._found.map.content(first, end)
        also = Runs.zeros(*self._also).cut(first, end)
        edges = [np.array([first, end], dtype=np.uint64)]
        edges += [column for runs in (wanted, found, also) for column in (runs.starts, runs.ends)]
        borders = distinct(np.concatenate(edges))
        starts, lengths = borders[:-1], np.diff(borders)
        new, old = (np.where(*look_up(runs, starts), ZERO) for runs in (wanted, found))
        apart = self._common(new, self._wanted) != self._common(old, self._found)
        forced, _ = look_up(also, starts)
        doubtful = apart & ~forced & (new != ZERO) & (old != ZERO)
        differs = (apart | forced) & ~doubtful
        pieces = Runs(starts, lengths, new)
        unequal = self._unequal(
            pieces.take(doubtful), Runs(starts[doubtful], lengths[doubtful], old[doubtful])
        )
        content = interleave(pieces.take(differs & (new != ZERO)), unequal)
        return Part(self._wanted, content, pieces.take(differs & (new == ZERO)), self._found.size)

    def _common(self, locations: U64, image: Image) -> U64:
        """Return locations that are equal in both images where they name the same spot."""
        common, has = locations.copy(), locations != ZERO
        packs = locations[has] >> SLOT_BITS
        known, at = np.unique(packs, return_inverse=True)
        places = image.map.places
        ours = np.array([self._packs.number(places[int(pack)]) for pack in known], np.uint64)
        if len(known):
            common[has] = ours[at] << SLOT_BITS | locations[has] & SLOT_MASK
        return common

    def _unequal(self, new: Runs, old: Runs) -> Runs:
        """Return the blocks of ``new`` whose identity is not that in ``old``, the same blocks."""
        kept = Runs.empty()
        low = 0
        while len(new):
            at = int(np.searchsorted(new.ends, np.uint64(low), side="right"))
            if at == len(new):
                break
            low = max(low, int(new.starts[at]))
            blocks, locations = expand(new.cut(low, low + STEP_BLOCKS))
            _, others = expand(old.cut(low, low + STEP_BLOCKS))
            is_other = (self._wanted.identities(locations) != self._found.identities(others)).any(
                axis=1
            )
            kept = interleave(kept, joined_runs(blocks[is_other], locations[is_other]))
            low += STEP_BLOCKS
        return kept


def _merged(starts: U64, ends: U64) -> tuple[U64, U64]:
    """Return ascending ranges, which rounding may have made touch or overlap, as runs."""
    if not len(starts):
        return starts, ends
    reach = np.maximum.accumulate(ends)
    apart = np.concatenate([[True], starts[1:] > reach[:-1]])
    firsts = starts[apart]
    lasts = reach[np.concatenate([apart[1:], [True]])]
    return firsts, lasts - firsts
