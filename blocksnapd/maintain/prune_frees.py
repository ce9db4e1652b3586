"""What forgetting points frees: blocks in packs that no remaining point names. Pure.

Between two neighbouring points lies a *gap*: all that changed from one to the next. Content lives
as long as a gap names it. When points go, the gaps around them become one, and what newer changes
hide in it is named no more. So all gaps are read once, and again those that become one, with one
bit per slot for what is named now and one for what is named afterwards.

Bytes are a pack's size shared out evenly over its blocks: what collecting and repacking get back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

import numpy as np

from blocksnapd.store.runs import SLOT_BITS, SLOT_MASK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from blocksnapd.model import U8
    from blocksnapd.store.layers import PackPlace
    from blocksnapd.store.runs import Runs

Slots: TypeAlias = "dict[int, U8]"  # by pack: one bit for each of its slots


class Gaps(Protocol):
    """Reads gaps of one volume. Blocking."""

    def windows(self, after: int, upto: int) -> Iterator[tuple[Runs, Sequence[PackPlace]]]:
        """Yield the content that changed from point ``after`` (0: nothing) to ``upto``.

        In pieces, each with the packs its locations count in: one list that only grows. Locations
        lie within the packs' slots.

        Raises:
            FormatError, StoreError, NotFoundError: it cannot be read.
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

    The last of ``seqs`` is never forgotten. Memory: three bits per slot of the volume, and the
    slots of forgotten points once more. Raises as ``Gaps.windows``.
    """
    walk, gone = _Walk(gaps), set(forgotten)
    for index, seq in enumerate(seqs):
        walk.step(seq, is_forgotten=seq in gone)
        if progress is not None:
            progress(index + 1, len(seqs))
    return walk.finish()


class _Walk:
    """The state between points."""

    def __init__(self, gaps: Gaps) -> None:
        self._gaps = gaps
        self._packs: list[PackPlace] = []
        self._numbers: dict[str, int] = {}
        self._named = _Marks()
        self._shared = _Marks()  # named by two gaps or more
        self._named_after = _Marks()
        self._kept = self._before = self._last = 0  # the last kept point; the last two of all
        self._last_own: Slots | None = None  # what the last point's gap names, if it is forgotten
        self._hidden: dict[int, Slots] = {}

    def step(self, seq: int, *, is_forgotten: bool) -> None:
        own = self._slots(self._last, seq)
        for pack, bits in own.items():
            self._shared.add(pack, self._named.marked(pack, bits))
            self._named.add(pack, bits)
        both: Slots | None = None
        if self._last_own is not None:
            both = self._slots(self._before, seq)
            self._hidden[self._last] = _without(self._last_own, both)
        if not is_forgotten:
            for pack, bits in self._merged(seq, own, both).items():
                self._named_after.add(pack, bits)
            self._kept = seq
        self._last_own = own if is_forgotten else None
        self._before, self._last = self._last, seq

    def _merged(self, seq: int, own: Slots, both: Slots | None) -> Slots:
        """Return what the gap names that ends with a kept point, once the others are gone."""
        if self._last_own is None:
            return own
        if both is not None and self._kept == self._before:
            return both
        return self._slots(self._kept, seq)

    def finish(self) -> Freed:
        alone = {seq: self._bytes(bits, but=self._shared) for seq, bits in self._hidden.items()}
        return Freed(self._bytes(self._named.packs, but=self._named_after), alone)

    def _slots(self, after: int, upto: int) -> Slots:
        """Return the slots that a gap names."""
        found, numbers = _Marks(), list[int]()
        for runs, places in self._gaps.windows(after, upto):
            numbers += [self._number(place) for place in places[len(numbers) :]]
            packs = (runs.locations >> SLOT_BITS).astype(np.intp)
            order = np.argsort(packs, kind="stable")
            which, heads = np.unique(packs[order], return_index=True)
            parts = np.split(order, heads[1:])
            for pack, part in zip(which.tolist(), parts, strict=False):  # no runs: one empty part
                found.add(numbers[pack], _bits(runs.take(part), places[pack].ref.blocks))
        return found.packs

    def _number(self, place: PackPlace) -> int:
        number = self._numbers.setdefault(place.ref.name, len(self._packs))
        if number == len(self._packs):
            self._packs.append(place)
        return number

    def _bytes(self, slots: Slots, *, but: _Marks) -> int:
        """Return the bytes of ``slots`` that ``but`` does not mark."""
        total = 0.0
        for pack, bits in slots.items():
            ref, count = self._packs[pack].ref, np.bitwise_count(but.unmarked(pack, bits)).sum()
            total += int(count) * ref.size / ref.blocks
        return round(total)


class _Marks:
    """One bit per slot, by pack; packs that were never marked take no memory."""

    def __init__(self) -> None:
        self.packs: Slots = {}

    def add(self, pack: int, bits: U8) -> None:
        """Mark slots."""
        self.packs[pack] = self.packs[pack] | bits if pack in self.packs else bits

    def marked(self, pack: int, bits: U8) -> U8:
        """Return which of ``bits`` are marked."""
        return bits & self.packs[pack] if pack in self.packs else np.zeros_like(bits)

    def unmarked(self, pack: int, bits: U8) -> U8:
        """Return which of ``bits`` are not."""
        return bits & ~self.packs[pack] if pack in self.packs else bits


def _bits(content: Runs, slots: int) -> U8:
    """Return the slots of one pack that ``content`` names, as bits."""
    edges = np.zeros(slots + 1, dtype=np.int32)
    starts = (content.locations & SLOT_MASK).astype(np.intp)
    np.add.at(edges, starts, 1)
    np.add.at(edges, starts + content.lengths.astype(np.intp), -1)
    return np.packbits(np.cumsum(edges[:-1]) > 0)


def _without(slots: Slots, others: Slots) -> Slots:
    return {pack: bits & ~others[pack] if pack in others else bits for pack, bits in slots.items()}
