"""Part of an image, such as a partition or a logical volume, as an image of its own.

So a kernel is shown one file system and nothing around it: no partitions to scan, and no physical
volume that its LVM, which may have the original, would find a second time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.files.source import READ_SIZE_MAX
from blocksnapd.model import Extents

if TYPE_CHECKING:
    from blocksnapd.files.source import Source
    from blocksnapd.ports import PointImage


class PartImage:
    """What an export needs of a ``PointImage``. Thread-safe; closes the image it is part of.

    Args:
        image: the whole.
        part: the part, whose bytes are all in ``image``.
    """

    def __init__(self, image: PointImage, part: Source) -> None:
        self._image, self._part = image, part
        self.size, self.block_size, self.point = part.size, image.block_size, image.point

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill ``view`` from ``offset``; see ``ports.PointImage``."""
        view = view.cast("B")
        for at in range(0, len(view), READ_SIZE_MAX):
            length = min(READ_SIZE_MAX, len(view) - at)
            view[at : at + length] = self._part.read_at(offset + at, length)

    def data_extents(self, start: int = 0, end: int | None = None) -> Extents:
        """Return where there is content; see ``ports.PointImage``."""
        end = self.size if end is None else min(end, self.size)
        starts, ends = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)]
        at = start
        for place, length in self._part.places(start, max(0, end - start)):
            found = self._image.data_extents(place, place + length)
            starts.append(found.starts - np.uint64(place) + np.uint64(at))
            ends.append(found.ends - np.uint64(place) + np.uint64(at))
            at += length
        low, high = np.concatenate(starts), np.concatenate(ends)
        edge = np.ones(min(1, len(low)), np.bool_)
        apart = low[1:] != high[:-1]  # what lies side by side here is one
        return Extents(low[np.append(edge, apart)], high[np.append(apart, edge)])

    def close(self) -> None:
        """Close the image."""
        self._image.close()
