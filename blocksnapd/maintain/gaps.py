"""What changed between two points, out of the points' own bodies. Edge.

Opens every point after the one up to the other, so all of them must be there still.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocksnapd.errors import NotFoundError
from blocksnapd.maintain.prune_frees import Gap, merged
from blocksnapd.store.layers import relocate
from blocksnapd.store.names import parse_point_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blocksnapd.store.point_format import PackRef
    from blocksnapd.store.point_reader import LoadedPoint, PointReader


class PointGaps:
    """The gaps of one volume; ``names`` are those of its points, all of them. One thread."""

    def __init__(self, reader: PointReader, names: Iterable[str]) -> None:
        self._reader = reader
        self._names = {parse_point_name(name).seq: name for name in names}

    def gap(self, after: int, upto: int) -> Gap:
        """Return what changed from the point ``after`` to the point ``upto``, see ``Gaps``.

        Raises:
            NotFoundError: one of the points between them is not there.
            ChecksumError, RepositoryFormatError: one is damaged or of another format.
        """
        packs: list[PackRef] = []
        found: Gap | None = None
        for seq in range(after + 1, upto + 1):
            loaded = self._load(seq)
            layer = loaded.layer()
            runs = relocate(layer.runs, len(packs))
            packs += [place.ref for place in loaded.places()]
            own = Gap(runs, layer.blocks, layer.floor, packs)
            found = own if found is None else merged(found, own)
        if found is None:
            raise NotFoundError(f"there is nothing between points {after} and {upto}")
        return found

    def _load(self, seq: int) -> LoadedPoint:
        if seq not in self._names:
            raise NotFoundError(f"the point in place {seq} is not there any more")
        return self._reader.load(self._names[seq])
