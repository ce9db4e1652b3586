"""What snapshots of one volume hold: its content then, what changed, what it was before. Edge.

Rule of this file: every descriptor on a COW device is closed before the call that opened it
returns, or the generator that opened it ends. The parser of COW devices is handed in.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import weakref
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from blocksnapd.cycle.dm_ioctl import Control
from blocksnapd.cycle.dm_stack import is_given_up, snapshot_numbers
from blocksnapd.cycle.lvm_text import dm_name, snapshot_name
from blocksnapd.errors import CowFormatError, TrackingLostError, VolumeError
from blocksnapd.model import Changes, SavedBatch
from blocksnapd.runtime.buffers import buffers
from blocksnapd.runtime.direct_reader import DirectReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blocksnapd.cycle.lvm_text import VolumeName
    from blocksnapd.model import U64, Extents
    from blocksnapd.ports import BlockReader, CowReader, Exceptions

_T = TypeVar("_T")

# About 72 bytes of memory each; 64 GiB of scattered 4 KiB chunks. A volume that changed more than
# this since the last point is compared as a whole, in memory that does not grow.
ENTRIES_MAX = 1 << 24


class MergeChunks(Protocol):
    """Turns chunk numbers into extents; see ``parse.extents``."""

    def __call__(self, chunks: U64, *, chunk_size: int, origin_size: int) -> Extents:
        """Return what the chunks cover."""


class SnapshotContent:
    """Reads the snapshots of ``volume``. Everything blocks; one thread at a time."""

    def __init__(
        self, volume: VolumeName, open_cow: Callable[[str], CowReader], merge_chunks: MergeChunks
    ) -> None:
        self._volume, self._open_cow, self._merge_chunks = volume, open_cow, merge_chunks
        self._tables: dict[str, Exceptions] = {}
        self._readers: weakref.WeakSet[DirectReader] = weakref.WeakSet()
        self._cows: list[tuple[str, CowReader]] = []

    def close(self, point_id: str) -> None:
        """Let go whatever is held of the snapshot of ``point_id``."""
        self._tables.pop(point_id, None)
        for reader in list(self._readers):
            if reader.path == self._path(snapshot_name(point_id)):
                reader.close()
        for held_id, cow in self._cows:  # of a ``saved`` that nobody read to its end
            if held_id == point_id:
                cow.close()

    def open_snapshot(self, point_id: str) -> BlockReader:
        """Open the content of the volume at the instant of ``point_id``.

        Raises:
            VolumeError: there is no such snapshot.
        """
        path = self._path(snapshot_name(point_id))
        try:
            reader = DirectReader(path, _size_of(path), effect="The point was not made.")
        except OSError as error:
            raise VolumeError(
                f"The snapshot {path} cannot be opened: {error.strerror}.",
                effect="Its point cannot be made.",
                hint="'lvs -a' shows whether it still exists.",
            ) from error
        self._readers.add(reader)
        return reader

    def changes(self, base_id: str) -> Changes:
        """Return what may have changed since the snapshot of ``base_id``.

        Raises:
            TrackingLostError: that snapshot is invalid or its table is damaged.
        """
        origin_size = _size_of(self._path(self._volume.lv))
        with self._cow(base_id) as cow:
            self._check_status(base_id)
            table = _or_lost(
                base_id, lambda: cow.table(origin_size=origin_size, entries_max=ENTRIES_MAX)
            )
        self._tables = {base_id: table}  # of one base at a time: it may be large
        extents = self._merge_chunks(
            table.old, chunk_size=table.chunk_size, origin_size=origin_size
        )
        return Changes(extents, table.chunk_size, len(table.old))

    def saved(self, base_id: str, *, batch_size: int) -> Iterator[SavedBatch]:
        """Yield the old content of every chunk that ``changes`` listed.

        In the order of the COW device, so that reads are long. The last chunk of an origin that
        is no multiple of the chunk size holds leftovers behind the origin's end.

        Raises:
            HostError: the COW device failed.
        """
        if base_id not in self._tables:
            self.changes(base_id)
        table = self._tables[base_id]
        size = table.chunk_size
        count = max(1, batch_size // size)
        if not len(table.new):
            return
        old, new = _in_cow_order(table)
        turns = itertools.cycle(buffers(2, min(count, len(new)) * size))
        with self._cow(base_id) as cow:
            for first in range(0, len(new), count):
                part = slice(first, first + count)
                data = next(turns)[: len(new[part]) * size]
                _read_chunks(cow, new[part], size, data)
                yield SavedBatch(size, old[part], data)

    def check_valid(self, point_ids: tuple[str, ...]) -> None:
        """Make sure that these snapshots were whole up to now.

        Raises:
            TrackingLostError: one of them is not.
        """
        for point_id in point_ids:
            with self._cow(point_id) as cow:
                _or_lost(point_id, cow.check_valid)
            self._check_status(point_id)

    def cow_use(self, point_id: str) -> tuple[int, int] | None:
        """Return (used, size) in bytes by ioctl; None when the snapshot is not whole or gone."""
        with Control() as control:
            return snapshot_numbers(control.status(self._dm(snapshot_name(point_id))))

    def is_given_up(self, point_id: str) -> bool:
        """Return whether the kernel says of the snapshot that it tracks no more; by ioctl."""
        with Control() as control:
            status = control.status(self._dm(snapshot_name(point_id)))
        return is_given_up(status)

    @contextlib.contextmanager
    def _cow(self, point_id: str) -> Iterator[CowReader]:
        path = f"{self._path(snapshot_name(point_id))}-cow"
        cow = _or_lost(point_id, lambda: self._open_cow(path))
        self._cows.append((point_id, cow))
        try:
            yield cow
        finally:
            cow.close()
            self._cows.remove((point_id, cow))

    def _check_status(self, point_id: str) -> None:
        if self.cow_use(point_id) is None:
            raise _lost(point_id, "the kernel no longer tracks with it")

    def _dm(self, name: str) -> str:
        return dm_name(self._volume.vg, name)

    def _path(self, name: str) -> str:
        return f"/dev/mapper/{self._dm(name)}"


def _in_cow_order(table: Exceptions) -> tuple[U64, U64]:
    """Return (old, new) by position on the COW device; allocation order nearly always is."""
    if np.all(table.new[1:] > table.new[:-1]):
        return table.old, table.new
    order = np.argsort(table.new, kind="stable")
    return table.old[order], table.new[order]


def _read_chunks(cow: CowReader, chunks: U64, size: int, data: memoryview) -> None:
    """Fill ``data`` with COW chunks ``chunks``; neighbours are read at once."""
    breaks = np.flatnonzero(np.diff(chunks) != 1) + 1
    bounds = [0, *breaks.tolist(), len(chunks)]
    for start, stop in itertools.pairwise(bounds):
        cow.read_into(int(chunks[start]) * size, data[start * size : stop * size])


def _or_lost(point_id: str, read: Callable[[], _T]) -> _T:
    try:
        return read()
    except (CowFormatError, VolumeError) as error:
        raise _lost(point_id, error.message) from error


def _lost(point_id: str, why: str) -> TrackingLostError:
    return TrackingLostError(
        f"Change tracking since {point_id} is lost: {why}",
        effect="The next point needs a full compare of the volume; no earlier point is affected.",
        hint="The kernel log says whether the COW space was full or its disk failed.",
    )


def _size_of(path: str) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.lseek(fd, 0, os.SEEK_END)
    finally:
        os.close(fd)
