"""What a connection reads from and, with an overlay, writes to. Pure; its methods may block."""

from __future__ import annotations

import logging
from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from blocksnapd.errors import BlocksnapError
from blocksnapd.model import Extents

if TYPE_CHECKING:
    from blocksnapd.ports import PointImage

log = logging.getLogger(__name__)

SPAN_SIZE: Final = 1 << 30  # with holes everywhere, the map of so much takes 2 MiB
SPANS_MAX: Final = 16
TOLD_MAX: Final = 20  # different problems of one image that are logged


class Disk(Protocol):
    """Safe for several threads. Ranges lie within ``size``: the rules have seen to it."""

    @property
    def size(self) -> int:
        """Bytes in all."""

    @property
    def block_size(self) -> int:
        """What requests are best aligned to."""

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill ``view`` from ``offset``, any alignment.

        Raises:
            BlocksnapError: what is there cannot be read.
        """

    def data_extents(self, start: int, end: int) -> Extents:
        """Return where between ``start`` and ``end`` there may be content; the rest is zero."""

    def close(self) -> None:
        """Let files and memory go; nobody uses it any more."""


class WritableDisk(Disk, Protocol):
    """A disk that takes writes."""

    def write(self, offset: int, data: bytes) -> None:
        """Write.

        Raises:
            OSError: there is no room.
        """

    def zero(self, offset: int, length: int) -> None:
        """Make a range read as zeros; raises as ``write``."""


class ImageDisk:
    """A point's image, read-only; its map is looked at span by span, as it is asked for."""

    def __init__(self, image: PointImage) -> None:
        self._image = image
        self._spans: OrderedDict[int, Extents] = OrderedDict()
        self._lock = Lock()
        self._told: set[str] = set()
        self.size = image.size
        self.block_size = image.block_size

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill ``view``; see ``Disk``. What cannot be read is logged: few clients show reasons."""
        try:
            self._image.read_into(offset, view)
        except BlocksnapError as error:
            if error.message not in self._told and len(self._told) < TOLD_MAX:
                self._told.add(error.message)
                log.warning("%s", error.sentences())
            raise

    def data_extents(self, start: int, end: int) -> Extents:
        """Return where there is content; see ``Disk``."""
        found = Extents.whole(0)
        for number in range(start // SPAN_SIZE, -(-end // SPAN_SIZE)):
            found = union(found, cut(self._span(number), start, end))
        return found

    def close(self) -> None:
        """Close the image."""
        self._image.close()

    def _span(self, number: int) -> Extents:
        with self._lock:
            found = self._spans.get(number)
            if found is not None:
                self._spans.move_to_end(number)
                return found
        start = number * SPAN_SIZE
        found = self._image.data_extents(start, min(start + SPAN_SIZE, self.size))
        with self._lock:
            self._spans[number] = found
            if len(self._spans) > SPANS_MAX:
                self._spans.popitem(last=False)
        return found


def cut(extents: Extents, start: int, end: int) -> Extents:
    """Return the part of ``extents`` between ``start`` and ``end``."""
    low = int(np.searchsorted(extents.ends, np.uint64(start), side="right"))
    high = int(np.searchsorted(extents.starts, np.uint64(end), side="left"))
    if low >= high or start >= end:
        return Extents.whole(0)
    return Extents(
        np.maximum(extents.starts[low:high], np.uint64(start)),
        np.minimum(extents.ends[low:high], np.uint64(end)),
    )


def union(one: Extents, other: Extents) -> Extents:
    """Return what either covers."""
    if not (len(one) and len(other)):
        return one if len(one) else other
    starts = np.concatenate([one.starts, other.starts])
    ends = np.concatenate([one.ends, other.ends])
    order = np.argsort(starts, kind="stable")
    starts, reach = starts[order], np.maximum.accumulate(ends[order])
    is_first = np.concatenate([[True], starts[1:] > reach[:-1]])
    is_last = np.concatenate([is_first[1:], [True]])
    return Extents(starts[is_first], reach[is_last])


def alternating(extents: Extents, start: int, end: int) -> list[tuple[int, bool]]:
    """Return (length, is data) of the parts from ``start`` to ``end``, neighbours different.

    Args:
        extents: within ``start`` … ``end``.
        start: first byte.
        end: byte after the last, above ``start``.
    """
    edges = np.empty(2 * len(extents) + 2, dtype=np.uint64)
    edges[0], edges[-1] = start, end
    edges[1:-1:2], edges[2:-1:2] = extents.starts, extents.ends
    lengths = np.diff(edges).tolist()  # hole, data, hole, …; only the outer holes can be empty
    parts = [(length, index % 2 == 1) for index, length in enumerate(lengths)]
    return [part for part in parts if part[0]]
