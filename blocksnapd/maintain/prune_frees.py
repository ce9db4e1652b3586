"""What forgetting points frees: blocks in packs that no remaining point names. Pure.

Between two neighbouring points lies a *gap*: the layer of all that changed from one to the next.
Content lives as long as a gap names it. When points go, the gaps around them become one, and what
newer changes hide in it is named no more. So the layers are walked once, oldest to newest, with
one bit per slot for what is named now and one for what is named afterwards.

Bytes are a pack's size shared out evenly over its blocks: what collecting and repacking get back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from blocksnapd.store.layers import renumbered
from blocksnapd.store.runs import SLOT_BITS, SLOT_MASK, overlay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from blocksnapd.model import U8
    from blocksnapd.store.point_format import PackRef
    from blocksnapd.store.runs import Runs


@dataclass(frozen=True, slots=True, eq=False)
class Gap:
    """What changed between two points: a ``store.layers.Layer`` and the packs it counts in."""

    runs: Runs
    blocks: int
    floor: int
    packs: Sequence[PackRef]


class Gaps(Protocol):
    """Reads gaps of one volume. Blocking."""

    def gap(self, after: int, upto: int) -> Gap:
        """Return what changed from the point with seq ``after`` (0: nothing) to that of ``upto``.

        Locations lie within the packs' slots.

        Raises:
            FormatError, StoreError: it cannot be read.
        """


class Freed(NamedTuple):
    """Bytes that all forgotten points free together, and each of them alone, by ``seq``."""

    total: int
    alone: dict[int, int]


def measure(
    seqs: Sequence[int],
    forgotten: Iterable[int],
    gaps: Gaps,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Freed:
    """Return what forgetting the points ``forgotten`` of ``seqs``, ascending, frees.

    The last of ``seqs`` is never forgotten. Memory: three bits per slot of the volume, the slots
    of forgotten points once more, and one merged layer. Raises as ``Gaps.gap``.
    """
    walk, gone, after = _Walk(), set(forgotten), 0
    for index, seq in enumerate(seqs):
        walk.step(seq, gaps.gap(after, seq), is_forgotten=seq in gone)
        after = seq
        if progress is not None:
            progress(index + 1, len(seqs))
    return walk.finish()


class _Walk:
    """The state between gaps."""

    def __init__(self) -> None:
        self._packs: list[PackRef] = []
        self._numbers: dict[str, int] = {}
        self._named = _Marks()
        self._shared = _Marks()  # named by two gaps or more
        self._named_after = _Marks()
        self._merged: Gap | None = None  # the forgotten ones before this gap, merged
        self._last: tuple[int, Gap] | None = None  # the point before, if it is forgotten
        self._hidden: dict[int, dict[int, U8]] = {}

    def step(self, seq: int, gap: Gap, *, is_forgotten: bool) -> None:
        gap = self._numbered(gap)
        for pack, bits in self._slots(gap.runs).items():
            self._shared.add(pack, self._named.marked(pack, bits))
            self._named.add(pack, bits)
        if self._last is not None:
            last, own = self._last
            self._hidden[last] = self._hides(own, gap)
        self._merged = gap if self._merged is None else merged(self._merged, gap)
        self._last = (seq, gap) if is_forgotten else None
        if not is_forgotten:
            for pack, bits in self._slots(self._merged.runs).items():
                self._named_after.add(pack, bits)
            self._merged = None

    def finish(self) -> Freed:
        alone = {seq: self._bytes(bits, but=self._shared) for seq, bits in self._hidden.items()}
        return Freed(self._bytes(self._named.packs, but=self._named_after), alone)

    def _hides(self, older: Gap, newer: Gap) -> dict[int, U8]:
        """Return the slots of ``older`` that are not seen any more under ``newer``."""
        seen = self._slots(merged(older, newer).runs)
        return {
            pack: bits & ~seen[pack] if pack in seen else bits
            for pack, bits in self._slots(older.runs).items()
        }

    def _numbered(self, gap: Gap) -> Gap:
        """Return ``gap`` with locations that count in the packs of this walk."""
        numbers = np.zeros(len(gap.packs), dtype=np.uint64)
        for index, pack in enumerate(gap.packs):
            if pack.name not in self._numbers:
                self._numbers[pack.name] = len(self._packs)
                self._packs.append(pack)
            numbers[index] = self._numbers[pack.name]
        return Gap(renumbered(gap.runs, numbers), gap.blocks, gap.floor, gap.packs)

    def _slots(self, runs: Runs) -> dict[int, U8]:
        """Return the slots that ``runs`` name, as bits, by pack."""
        content = runs.content()
        packs = (content.locations >> SLOT_BITS).astype(np.intp)
        order = np.argsort(packs, kind="stable")
        content = content.take(order)
        numbers, heads = np.unique(packs[order], return_index=True)
        found = {}
        parts = np.split(np.arange(len(content)), heads[1:])
        for pack, part in zip(numbers.tolist(), parts, strict=False):  # no packs: one empty part
            found[pack] = _bits(content.take(part), self._packs[pack].blocks)
        return found

    def _bytes(self, slots: dict[int, U8], *, but: _Marks) -> int:
        """Return the bytes of ``slots`` that ``but`` does not mark."""
        total = 0.0
        for pack, bits in slots.items():
            ref, count = self._packs[pack], np.bitwise_count(but.unmarked(pack, bits)).sum()
            total += int(count) * ref.size / ref.blocks
        return round(total)


def _bits(content: Runs, slots: int) -> U8:
    """Return the slots of one pack that ``content`` names, as bits."""
    edges = np.zeros(slots + 1, dtype=np.int32)
    starts = (content.locations & SLOT_MASK).astype(np.intp)
    np.add.at(edges, starts, 1)
    np.add.at(edges, starts + content.lengths.astype(np.intp), -1)
    return np.packbits(np.cumsum(edges[:-1]) > 0)


class _Marks:
    """One bit per slot, by pack; packs that were never marked take no memory."""

    def __init__(self) -> None:
        self.packs: dict[int, U8] = {}

    def add(self, pack: int, bits: U8) -> None:
        """Mark slots."""
        self.packs[pack] = self.packs[pack] | bits if pack in self.packs else bits

    def marked(self, pack: int, bits: U8) -> U8:
        """Return which of ``bits`` are marked."""
        return bits & self.packs[pack] if pack in self.packs else np.zeros_like(bits)

    def unmarked(self, pack: int, bits: U8) -> U8:
        """Return which of ``bits`` are not."""
        return bits & ~self.packs[pack] if pack in self.packs else bits


def merged(older: Gap, newer: Gap) -> Gap:
    """Return both as one gap; the packs of both have the same numbers."""
    # Beyond the end of the older image nothing shows through, however far the newer one reaches.
    end = min(newer.floor, older.blocks)
    runs = overlay(older.runs.cut(0, end), newer.runs)
    return Gap(runs, newer.blocks, min(older.floor, end), newer.packs)
