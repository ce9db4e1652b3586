"""Random reads of a point's image, and of parts of it: what the file systems are read from.

Every address comes from bytes that somebody else wrote, so reading outside is a FormatError and
never an assertion. Small reads go through a cache of bounded size; safe for several threads.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING, Final, Protocol

from blocksnapd.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from blocksnapd.ports import PointImage

PAGE_SIZE: Final = 64 << 10
PAGES_MAX: Final = 256
READ_SIZE_MAX: Final = 16 << 20


class Source(Protocol):
    """Bytes at addresses. Safe for several threads; may block."""

    @property
    def size(self) -> int:
        """Bytes in all."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes, at most ``READ_SIZE_MAX``.

        Raises:
            FormatError: some of them are outside. ChecksumError, StoreError: the point is damaged
                there, or its repository cannot be read.
        """

    def places(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Yield where in the image these bytes are: (offset, length), in order."""


class ImageSource:
    """A whole image."""

    def __init__(self, image: PointImage) -> None:
        self._image = image
        self._pages: OrderedDict[int, bytes] = OrderedDict()
        self._lock = Lock()
        self.size = image.size

    def read_at(self, offset: int, length: int) -> bytes:
        """Return bytes; see ``Source``. What is larger than a page is not remembered."""
        check_inside(offset, length, self.size)
        if not length:
            return b""
        first, last = offset // PAGE_SIZE, (offset + length - 1) // PAGE_SIZE
        if first == last:
            at = offset - first * PAGE_SIZE
            return self._page(first)[at : at + length]
        found = bytearray(length)
        self._image.read_into(offset, memoryview(found))
        return bytes(found)

    def places(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Yield them; see ``Source``."""
        if length:
            yield offset, length

    def _page(self, number: int) -> bytes:
        with self._lock:
            found = self._pages.get(number)
            if found is not None:
                self._pages.move_to_end(number)
                return found
        start = number * PAGE_SIZE
        page = bytearray(min(PAGE_SIZE, self.size - start))
        self._image.read_into(start, memoryview(page))
        found = bytes(page)
        with self._lock:
            self._pages[number] = found
            if len(self._pages) > PAGES_MAX:
                self._pages.popitem(last=False)
        return found


class Pieces:
    """A disk made of pieces of others, such as a partition or a logical volume.

    Args:
        pieces: (of which, where there it lies, its length), in the order of this disk; never empty.

    Raises:
        FormatError: a piece lies outside.
    """

    def __init__(self, pieces: Sequence[tuple[Source, int, int]]) -> None:
        self._pieces = pieces
        self._starts = []
        at = 0
        for below, offset, length in pieces:
            if offset < 0 or length <= 0 or offset + length > below.size:
                raise FormatError("a part of a disk lies behind its end")
            self._starts.append(at)
            at += length
        self.size = at

    def read_at(self, offset: int, length: int) -> bytes:
        """Return bytes; see ``Source``."""
        check_inside(offset, length, self.size)
        found = [below.read_at(at, size) for below, at, size in self._parts(offset, length)]
        return found[0] if len(found) == 1 else b"".join(found)

    def places(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Yield them; see ``Source``."""
        for below, at, size in self._parts(offset, length):
            yield from below.places(at, size)

    def _parts(self, offset: int, length: int) -> Iterator[tuple[Source, int, int]]:
        while length:
            index = bisect_right(self._starts, offset) - 1
            below, start, size = self._pieces[index]
            within = offset - self._starts[index]
            part = min(length, size - within)
            yield below, start + within, part
            offset, length = offset + part, length - part


class Striped:
    """A disk whose stripes lie on several others in turn.

    Args:
        parts: (which, where there the first stripe lies); more than one.
        stripe: bytes of each.
        size: bytes in all.

    Raises:
        FormatError: a stripe lies outside.
    """

    def __init__(self, parts: Sequence[tuple[Source, int]], stripe: int, size: int) -> None:
        rows = -(-size // max(1, stripe * len(parts)))
        if not stripe or any(at < 0 or at + rows * stripe > of.size for of, at in parts):
            raise FormatError("a stripe of a disk lies behind its end")
        self._parts, self._stripe, self.size = parts, stripe, size

    def read_at(self, offset: int, length: int) -> bytes:
        """Return bytes; see ``Source``."""
        check_inside(offset, length, self.size)
        return b"".join(of.read_at(at, size) for of, at, size in self._stripes(offset, length))

    def places(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Yield them; see ``Source``."""
        for below, at, size in self._stripes(offset, length):
            yield from below.places(at, size)

    def _stripes(self, offset: int, length: int) -> Iterator[tuple[Source, int, int]]:
        while length:
            number, within = divmod(offset, self._stripe)
            row, index = divmod(number, len(self._parts))
            below, start = self._parts[index]
            part = min(length, self._stripe - within)
            yield below, start + row * self._stripe + within, part
            offset, length = offset + part, length - part


def check_inside(offset: int, length: int, size: int) -> None:
    """Let only reads within ``size`` pass.

    Raises:
        FormatError: it is not within, or absurdly long.
    """
    if length > READ_SIZE_MAX or offset < 0 or length < 0 or offset + length > size:
        raise FormatError(
            f"bytes {offset} to {offset + length} are asked for, and there are {size}"
        )
