"""Where an image has no content, as ranges of bytes. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.model import Extents

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocksnapd.ports import PointImage

# The map of an image is looked at a span at a time: it may be larger than memory.
SPAN_SIZE = 4 << 30


def gaps_of(image: PointImage, span: int = SPAN_SIZE) -> Iterator[Extents]:
    """Yield where ``image`` has no content, ascending, a span at a time; they may touch."""
    for start in range(0, image.size, span):
        end = min(start + span, image.size)
        yield _complement(image.data_extents(start, end), start, end)


def _complement(extents: Extents, start: int, end: int) -> Extents:
    """Return the ranges from ``start`` to ``end`` that ``extents``, within them, leave out."""
    starts = np.concatenate([np.array([start], np.uint64), extents.ends])
    stops = np.concatenate([extents.starts, np.array([end], np.uint64)])
    kept = starts < stops
    return Extents(starts[kept], stops[kept])
