"""Which slots of which packs any listed point needs: one bit each. Edge.

A slot lives if what changed between two neighbouring points names it. Those gaps are read window
by window, so that memory is a bit per slot of the volume, one window, and what its packs take.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.errors import CancelledRunError
from blocksnapd.store.point_reader import PointReader
from blocksnapd.store.runs import SLOT_BITS, SLOT_MASK, ZERO, Runs
from blocksnapd.store.span_set import SpanSet
from blocksnapd.store.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from blocksnapd.model import U64
    from blocksnapd.store.keys import MaintenanceKey
    from blocksnapd.store.layers import PackPlace
    from blocksnapd.store.manifest_format import LoadedManifest, Patch, PointEntry
    from blocksnapd.store.objects import ObjectStore

_CHUNK_BLOCKS = 1 << 21
_ONE = np.uint64(1)


class LiveSlots:
    """A set of slots of packs that are known by name."""

    def __init__(self) -> None:
        self._firsts: dict[str, int] = {}  # where a pack's bits begin; whole bytes each
        self._bits = np.zeros(1 << 12, dtype=np.uint8)
        self._end = 0
        self.places: dict[str, PackPlace] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._firsts

    def learn(self, place: PackPlace) -> int:
        """Take a pack; return where its bits begin. A second time changes nothing."""
        name = place.ref.name
        if name not in self._firsts:
            self._firsts[name], self.places[name] = self._end, place
            self._end += 8 * -(-place.ref.blocks // 8)
            if self._end > 8 * len(self._bits):
                more = np.zeros(max(len(self._bits), self._end // 8), dtype=np.uint8)
                self._bits = np.concatenate([self._bits, more])
        return self._firsts[name]

    def add(self, firsts: U64, lengths: U64) -> None:
        """Take runs of bits, numbered over all packs; in any order, also more than once."""
        ends = np.cumsum(lengths)
        at = 0
        while at < len(firsts):
            done = int(ends[at - 1]) if at else 0
            upto = max(at + 1, int(np.searchsorted(ends, done + _CHUNK_BLOCKS, side="right")))
            self._set(firsts[at:upto], lengths[at:upto].astype(np.intp))
            at = upto

    def slots(self, name: str) -> np.typing.NDArray[np.bool_]:
        """Return for each slot of a known pack whether it lives."""
        first, count = self._firsts[name] // 8, self.places[name].ref.blocks
        bits = self._bits[first : first + -(-count // 8)]
        return np.unpackbits(bits, count=count, bitorder="little").view(np.bool_)

    def count(self, name: str) -> int:
        """Return how many slots of a pack live; 0 for one that nobody named."""
        return int(self.slots(name).sum()) if name in self._firsts else 0

    def _set(self, firsts: U64, lengths: np.typing.NDArray[np.intp]) -> None:
        heads = np.cumsum(lengths) - lengths
        within = np.arange(int(lengths.sum())) - np.repeat(heads, lengths)
        at = np.sort(np.repeat(firsts, lengths) + within.astype(np.uint64))
        where = (at >> np.uint64(3)).astype(np.intp)
        bits = _ONE << (at & np.uint64(7))
        starts = np.flatnonzero(np.diff(where, prepend=-1))
        merged = np.bitwise_or.reduceat(bits, starts).astype(np.uint8)
        self._bits[where[starts]] |= merged


@dataclass(frozen=True, slots=True)
class Mark:
    """What the listed points need.

    ``needed`` names the points and layers that tell it. ``problems`` are sentences: what could not
    be read and was done without. Nothing may be deleted as long as there are any.
    """

    live: LiveSlots
    needed: frozenset[str]
    problems: tuple[str, ...]


def mark(
    store: ObjectStore,
    key: MaintenanceKey,
    loaded: LoadedManifest,
    points: Sequence[PointEntry],
    *,
    cancelled: Callable[[], bool] = lambda: False,
) -> Mark:
    """Read every gap between ``points``, ascending, all that are listed. Blocking; minutes.

    Raises:
        FormatError, NotFoundError: a gap cannot be read in any way. StoreError: the place failed.
        CancelledRunError: ``cancelled`` said so.
    """
    spans = SpanSet(store, PointReader(store, key.source, key), loaded)
    spans.know(points)
    live, needed, after = LiveSlots(), set[str](), 0
    for point in points:
        stack = Stack(spans, after, point.seq)
        _mark_gap(stack, live, cancelled)
        needed |= {span.name for span in stack.chain}
        after = point.seq
    mark_patched(live, loaded.manifest.patches)
    return Mark(live, frozenset(needed), tuple(spans.problems))


def mark_patched(live: LiveSlots, patches: Iterable[Patch]) -> None:
    """Take what is read instead of damaged slots that live."""
    for patch in patches:
        if patch.origin not in live:
            continue
        wanted = np.flatnonzero(live.slots(patch.origin)[patch.slot : patch.slot + patch.count])
        if len(wanted):
            holder = patch.to.holder or patch.to.name
            place = replace(
                live.places[patch.origin], ref=patch.to, holder=holder, offset=patch.to.offset
            )
            first = live.learn(place) + patch.to_slot
            at = wanted.astype(np.uint64) + np.uint64(first)
            live.add(at, np.ones(len(at), dtype=np.uint64))


def _mark_gap(stack: Stack, live: LiveSlots, cancelled: Callable[[], bool]) -> None:
    firsts: U64 = np.zeros(0, dtype=np.uint64)
    for first, end in stack.windows():
        if cancelled():
            raise CancelledRunError("marking was cancelled")
        runs = stack.content(first, end)
        places = stack.places
        if len(firsts) < len(places):
            more = [live.learn(place) for place in places[len(firsts) :]]
            firsts = np.concatenate([firsts, np.array(more, dtype=np.uint64)])
        live.add(*_bits_of(runs, firsts))


def _bits_of(runs: Runs, firsts: U64) -> tuple[U64, U64]:
    content = runs.take(runs.locations != ZERO)
    packs = content.locations >> SLOT_BITS
    return firsts[packs] + (content.locations & SLOT_MASK), content.lengths
