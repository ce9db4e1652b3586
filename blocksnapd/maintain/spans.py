"""Which merged layers a volume should have, so that every point opens through few. Pure.

Fan-in 4, aligned by seq: a point is a boundary of level L when a multiple of 4^L lies between the
point before it and itself. A layer of level L leads from one boundary of that level to the next,
so those of level L+1 are made of about four of them. A point itself tells what changed since the
point before; where that one expired, a layer of level 0 takes its place.

Any point opens through at most about three layers a level: 20 at 10,000 points.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from blocksnapd.store.manifest_format import LayerRef, PointEntry

FAN_IN = 4


class Wanted(NamedTuple):
    """A layer that should exist: what changed from one listed point (0: nothing) to another."""

    from_seq: int
    to_seq: int
    level: int


def boundaries(seqs: Sequence[int], level: int) -> list[int]:
    """Return the boundaries of a level among ``seqs``, ascending; 0 comes first."""
    steps = np.array([0, *seqs], dtype=np.uint64) // np.uint64(FAN_IN**level)
    return [0, *(seqs[at] for at in np.flatnonzero(steps[1:] != steps[:-1]).tolist())]


def wanted(points: Sequence[PointEntry]) -> list[Wanted]:
    """Return the layers that should exist for the listed ``points``, in the order to make them.

    The order is that of their ends, small before large: each is made of what comes before it.
    What a point tells by itself is not among them.
    """
    seqs = [point.seq for point in points]
    fulls = {point.seq for point in points if point.kind == "full"}
    found: dict[tuple[int, int], Wanted] = {}
    level = 0
    while seqs and FAN_IN**level <= seqs[-1]:
        ends = boundaries(seqs, level)
        for after, upto in itertools.pairwise(ends):
            if after != upto - 1 and upto not in fulls:
                found.setdefault((after, upto), Wanted(after, upto, level))
        level += 1
    return sorted(found.values(), key=lambda one: (one.to_seq, one.level))


def due(points: Sequence[PointEntry], layers: Iterable[LayerRef]) -> list[Wanted]:
    """Return which wanted layers are missing, in the order to make them."""
    have = {(layer.from_seq, layer.to_seq) for layer in layers}
    return [one for one in wanted(points) if (one.from_seq, one.to_seq) not in have]


def unmerged(points: Sequence[PointEntry], layers: Iterable[LayerRef]) -> int:
    """Return how many points came since the newest layer: each is one more to open."""
    newest = max((layer.to_seq for layer in layers), default=0)
    return sum(point.seq > newest for point in points)


def replaced(
    points: Sequence[PointEntry], layers: Sequence[LayerRef], missing: Collection[Wanted]
) -> list[LayerRef]:
    """Return the layers that nothing needs any more: not wanted, or there twice.

    One that overlaps a ``missing`` layer stays until that is made: it may be all there is to make
    it of, and until then points open through it.
    """
    ends = {(one.from_seq, one.to_seq) for one in wanted(points)}
    found, seen = [], set()
    for layer in layers:
        pair = (layer.from_seq, layer.to_seq)
        if pair in ends and pair not in seen:
            seen.add(pair)
        elif not any(m.from_seq < layer.to_seq and layer.from_seq < m.to_seq for m in missing):
            found.append(layer)
    return found
