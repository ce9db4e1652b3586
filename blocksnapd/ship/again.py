"""Shipping again what the repository holds damaged, although it did not change. Pure.

What verification found damaged is whole on the source as long as no one wrote it over: its
fingerprint is still the damaged block's identity. Shipped once more, it heals every older point
that needs it; referring to the damaged place instead would spoil the new one, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.blocks import distinct, runs_of
from blocksnapd.model import NOWHERE, Extents

if TYPE_CHECKING:
    from blocksnapd.model import U8, U64, Wanted
    from blocksnapd.ports import KnownContent
    from blocksnapd.ship.fingerprints import Fingerprints


def still_held(wanted: Wanted, known: Fingerprints | None) -> U64:
    """Return the wanted blocks that the base holds as they were, ascending.

    ``known`` None: everything is shipped anyway, none by itself. Memory: 48 bytes per wanted block.
    """
    if known is None or not len(wanted.blocks):
        return np.zeros(0, dtype=np.uint64)
    found = known.get(wanted.blocks)
    nobody_knows = ~wanted.identities.any(axis=1)
    same = (found == wanted.identities).all(axis=1) | nobody_knows
    return distinct(wanted.blocks[same & found.any(axis=1)])


def with_blocks(extents: Extents, blocks: U64, *, block_size: int, size: int) -> Extents:
    """Return ``extents`` of an image of ``size`` bytes and those of ``blocks`` as one."""
    firsts, counts = runs_of(blocks[blocks < np.uint64(-(-size // block_size))])
    if not len(firsts):
        return extents
    each = np.uint64(block_size)
    starts = np.concatenate([extents.starts, firsts * each])
    ends = np.concatenate([extents.ends, np.minimum((firsts + counts) * each, np.uint64(size))])
    order = np.argsort(starts, kind="stable")
    starts, reach = starts[order], np.maximum.accumulate(ends[order])
    apart = np.flatnonzero(starts[1:] > reach[:-1]) + 1
    begin = np.concatenate([[0], apart])
    return Extents(starts[begin], reach[np.concatenate([apart - 1, [len(starts) - 1]])])


class KnownWithout:
    """A ``ports.KnownContent`` that never refers to content of the ``wanted`` identities."""

    def __init__(self, known: KnownContent, wanted: Wanted) -> None:
        self._known = known
        self._all = bool((~wanted.identities.any(axis=1)).any())
        self._bad = np.unique(_rows(wanted.identities))

    def find(self, hashes: U8) -> U64:
        """Return where content lies; see ``ports.KnownContent.find``."""
        found = self._known.find(hashes)
        if self._all:
            return np.full(len(found), NOWHERE)
        found[np.isin(_rows(hashes), self._bad)] = NOWHERE
        return found

    def pack(self, number: int) -> bytes:
        """Return what was told of a pack; see ``ports.KnownContent.pack``."""
        return self._known.pack(number)

    def note(self, blocks: U64, hashes: U8, locations: U64) -> None:
        """Pass on where blocks lie; see ``ports.KnownContent.note``."""
        self._known.note(blocks, hashes, locations)


def _rows(hashes: U8) -> np.typing.NDArray[np.void]:
    return np.ascontiguousarray(hashes).view(np.dtype("V16")).reshape(-1)
