"""A map whose damaged places were replaced: healed content is read where it lies now. Pure.

Layers name the place where content was first written, for ever. A manifest's patches tell which
slots of such a place are damaged, and where the same content lies; only who reads content needs
to know, so this stands between a map and its reader.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, overload

import numpy as np

from blocksnapd.blocks import distinct, runs_of
from blocksnapd.store.layers import PackPlace
from blocksnapd.store.place_numbers import PlaceNumbers
from blocksnapd.store.runs import SLOT_BITS, SLOT_MASK, Runs, expand, join

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from blocksnapd.model import U64
    from blocksnapd.store.manifest_format import Patch

_TARGETS = 1 << 31  # targets are numbered from here, out of the way of a list that grows


class ContentMap(Protocol):
    """Where the content of an image lies: a ``stack.Stack``, or what stands before one."""

    @property
    def depth(self) -> int:
        """How many layers it is made of."""

    @property
    def problems(self) -> Sequence[str]:
        """What could not be used, and was done without."""

    @property
    def places(self) -> Sequence[PackPlace]:
        """Where the packs are that were met so far."""

    def windows(self) -> Iterator[tuple[int, int]]:
        """Yield blocks ``(first, end)``, ascending, that cover the image."""

    def content(self, first: int, end: int) -> Runs:
        """Return where the content of these blocks lies."""


class MapOver:
    """A map that stands before another one, of which it shows other places."""

    def __init__(self, under: ContentMap) -> None:
        self._under = under

    @property
    def depth(self) -> int:
        """How many layers it is made of."""
        return self._under.depth

    @property
    def problems(self) -> Sequence[str]:
        """What could not be used, and was done without."""
        return self._under.problems

    def windows(self) -> Iterator[tuple[int, int]]:
        """Yield blocks ``(first, end)``, ascending, that cover the image."""
        return self._under.windows()


class Redirected(MapOver):
    """``under``, read around what ``patches`` tell to be damaged. As thread-safe as that."""

    def __init__(
        self, under: ContentMap, patches: Iterable[Patch], *, volume_id: str, block_size: int
    ) -> None:
        super().__init__(under)
        self._patches: dict[str, list[tuple[Patch, int]]] = {}
        targets = PlaceNumbers()
        self._targets = targets.places
        for patch in patches:
            to = patch.to
            place = PackPlace(to, volume_id, block_size, to.holder or to.name, to.offset)
            number = targets.number(place)
            self._patches.setdefault(patch.origin, []).append((patch, _TARGETS + number))

    @property
    def places(self) -> Sequence[PackPlace]:
        """Where the packs are that were met so far, and those that replace some."""
        return _Places(self._under.places, self._targets)

    def content(self, first: int, end: int) -> Runs:
        """Return where the content of these blocks lies now; raises as that of ``under``."""
        runs = self._under.content(first, end)
        packs = runs.locations >> SLOT_BITS
        places = self._under.places
        patched = {int(n): self._patches.get(places[int(n)].ref.name) for n in distinct(packs)}
        touched = {number: found for number, found in patched.items() if found is not None}
        if not touched:
            return runs
        mine = np.isin(packs, np.array(list(touched), dtype=np.uint64))
        blocks, locations = expand(runs.take(mine))
        moved = _moved(locations, touched)
        both = join([runs.take(~mine), joined_runs(blocks, moved)])
        return both.take(np.argsort(both.starts, kind="stable"))


class _Places(Sequence[PackPlace]):
    def __init__(self, places: Sequence[PackPlace], targets: Sequence[PackPlace]) -> None:
        self._places, self._targets = places, targets

    @overload
    def __getitem__(self, at: int) -> PackPlace: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[PackPlace]: ...

    def __getitem__(self, at: int | slice) -> PackPlace | Sequence[PackPlace]:
        if isinstance(at, int) and at >= _TARGETS:
            return self._targets[at - _TARGETS]
        return self._places[at]

    def __len__(self) -> int:
        return _TARGETS + len(self._targets)


def _moved(locations: U64, touched: dict[int, list[tuple[Patch, int]]]) -> U64:
    packs, slots = locations >> SLOT_BITS, locations & SLOT_MASK
    moved = locations.copy()
    for pack, patches in touched.items():
        own = packs == np.uint64(pack)
        for patch, number in patches:
            low, high = np.uint64(patch.slot), np.uint64(patch.slot + patch.count)
            hit = own & (slots >= low) & (slots < high)
            target = np.uint64((number << 32) + patch.to_slot)
            moved[hit] = target + (slots[hit] - low)
    return moved


def joined_runs(blocks: U64, locations: U64) -> Runs:
    """Return blocks, ascending, and the place of each as runs."""
    # Runs end where either the blocks or their places do not go on.
    _, lengths = runs_of(blocks)
    heads = np.zeros(len(blocks), dtype=np.bool_)
    heads[np.cumsum(lengths).astype(np.intp)[:-1]] = True
    heads[1:] |= locations[1:] != locations[:-1] + np.uint64(1)
    heads[:1] = True
    at = np.flatnonzero(heads)
    lengths = np.diff(at, append=len(blocks)).astype(np.uint64)
    return Runs(blocks[at], lengths, locations[at])
