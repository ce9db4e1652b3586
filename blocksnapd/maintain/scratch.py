"""The identity of every block of one image, in a temporary file. Edge.

16 bytes per block with content, sparse, gone with the process: walking a history costs what
changed from point to point, not what the image holds, and no memory.
"""

from __future__ import annotations

import mmap
import os
import tempfile

import numpy as np

from blocksnapd.errors import HostError
from blocksnapd.model import HASH_SIZE, U8, U64
from blocksnapd.runtime.owned import Closing

_GROWTH = 1 << 16
_TOUCHED_MAX = 1 << 22  # rows; their pages are let go then, the kernel writes them when it likes
SLICE = 1 << 20


class Scratch(Closing):
    """One row of ``HASH_SIZE`` bytes per block; all zero where nothing was put. One thread."""

    def __init__(self, directory: str | None = None) -> None:
        """Make the file in ``directory`` (None: where temporary files go).

        Raises:
            HostError: it cannot be made.
        """
        try:
            self._file = tempfile.TemporaryFile(dir=directory or _directory())  # noqa: SIM115
        except OSError as error:
            raise _failed(error) from error
        self._map: mmap.mmap | None = None
        self._rows = np.zeros((0, HASH_SIZE), dtype=np.uint8)
        self._touched = 0

    def __len__(self) -> int:
        """Rows there are; all after them are zero."""
        return len(self._rows)

    def get(self, blocks: U64) -> U8:
        """Return the rows of ``blocks``, shape (n, 16)."""
        found = np.zeros((len(blocks), HASH_SIZE), dtype=np.uint8)
        inside = blocks < np.uint64(len(self._rows))
        found[inside] = self._rows[blocks[inside]]
        self._touch(len(blocks))
        return found

    def put(self, blocks: U64, identities: U8) -> None:
        """Set the rows of ``blocks``, ascending.

        Raises:
            HostError: there is no room for it.
        """
        if not len(blocks):
            return
        self._grow(int(blocks.max()) + 1)
        self._rows[blocks] = identities
        self._touch(len(blocks))

    def piece(self, first: int, end: int) -> U8:
        """Return a copy of the rows ``first`` up to ``end``, at most ``SLICE`` of them."""
        found: U8 = np.array(self._rows[first:end])
        self._touch(end - first)
        return found

    def clear(self, first: int = 0, end: int | None = None) -> None:
        """Set the rows from ``first`` up to ``end`` (None: all) to zero."""
        end = len(self._rows) if end is None else min(end, len(self._rows))
        if first == 0 and end == len(self._rows):
            self._unmap()
            os.ftruncate(self._file.fileno(), 0)
            return
        for at in range(first, end, SLICE):
            rows = self._rows[at : min(at + SLICE, end)]
            if rows.any():  # a hole stays a hole
                rows[:] = 0
            self._touch(len(rows))

    def close(self) -> None:
        """Give the room back; a second call does nothing."""
        self._unmap()
        self._file.close()

    def _grow(self, rows: int) -> None:
        if rows <= len(self._rows):
            return
        rows = -(-max(rows, len(self._rows) + len(self._rows) // 4) // _GROWTH) * _GROWTH
        self._unmap()
        try:
            os.ftruncate(self._file.fileno(), rows * HASH_SIZE)
            self._map = mmap.mmap(self._file.fileno(), rows * HASH_SIZE)
        except (OSError, OverflowError, ValueError) as error:
            raise _failed(error) from error
        self._rows = np.frombuffer(self._map, dtype=np.uint8).reshape(-1, HASH_SIZE)

    def _touch(self, rows: int) -> None:
        self._touched += rows
        if self._touched > _TOUCHED_MAX and self._map is not None:
            self._map.madvise(mmap.MADV_DONTNEED)  # of a shared mapping: nothing is lost
            self._touched = 0

    def _unmap(self) -> None:
        self._rows = np.zeros((0, HASH_SIZE), dtype=np.uint8)
        if self._map is not None:
            self._map.close()
            self._map = None


def _directory() -> str:
    # Where /tmp is memory, the file of a large volume would fill it.
    return os.environ.get("TMPDIR") or ("/var/tmp" if os.path.isdir("/var/tmp") else "/tmp")  # noqa: S108


def _failed(error: Exception) -> HostError:
    return HostError(
        f"verification cannot keep its notes in a temporary file: {error}",
        effect="What it had to check was not checked; nothing was changed.",
        hint="It takes 16 bytes for each block with content. Give the directory of temporary files "
        "room, or name another one with TMPDIR.",
    )
