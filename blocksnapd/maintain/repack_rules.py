"""Which packs are worth repacking. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from blocksnapd.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blocksnapd.store.layers import PackPlace

SMALL_SIZE = MIB
DEAD_SHARE_MIN = 0.5
# A few small packs are no trouble; so many are read and listed for nothing.
SMALL_COUNT_MIN = 16


class Weighed(NamedTuple):
    """A pack, and how many of its blocks live."""

    place: PackPlace
    live: int
    blocks: int

    @property
    def dead_share(self) -> float:
        """From 0 to 1."""
        return 1 - self.live / self.blocks


def chosen(packs: Iterable[Weighed], *, budget: int) -> list[Weighed]:
    """Return the packs to repack, the deadest first, at most ``budget`` bytes of them.

    Those more than half dead, and, when there are many, the small ones.
    """
    known = list(packs)
    small = [p for p in known if p.place.ref.size < SMALL_SIZE]
    if len(small) < SMALL_COUNT_MIN:
        small = []
    names = {p.place.ref.name for p in small}
    worth = [p for p in known if p.dead_share > DEAD_SHARE_MIN or p.place.ref.name in names]
    worth.sort(key=lambda p: (-p.dead_share, p.place.ref.name))
    found, size = [], 0
    for pack in worth:
        if size + pack.place.ref.size <= budget:
            found.append(pack)
            size += pack.place.ref.size
    return found
