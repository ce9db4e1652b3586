"""A volume in memory whose snapshots copy on first write, as dm-snapshot does.

It outlives the daemon that uses it, as a host does: drop the :class:`MemorySource`, make another
one, and the snapshots are still there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.errors import CowReserveError, TrackingLostError
from blocksnapd.model import Changes, Extents, HostView, SavedBatch, SeenSnapshot, Taken

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Snapshot:
    """What one snapshot saved: origin chunk → its content when the snapshot was taken."""

    saved: dict[int, bytes] = field(default_factory=dict)
    state: str = "good"
    is_unreadable: bool = False  # the kernel calls it good, and yet its header is not
    instant: bytes = b""  # the whole content, for the test's own comparison


class MemoryVolume:
    """The host: content and snapshots."""

    def __init__(self, size: int, chunk_size: int = 4096) -> None:
        self.volume_id = "memory-volume"
        self.content = bytearray(size)
        self.chunk_size = chunk_size
        self.snapshots: dict[str, Snapshot] = {}
        self.instants: dict[str, bytes] = {}
        self.lying_chunks: dict[int, bytes] = {}
        self.room: int | None = None  # how many snapshots the COW disk has room for
        self.shortage = 1  # what is missing beyond that

    def write(self, offset: int, data: bytes) -> None:
        """Write to the origin; every snapshot saves what it has not saved yet."""
        chunk = self.chunk_size
        for number in range(offset // chunk, (offset + len(data) - 1) // chunk + 1):
            old = bytes(self.content[number * chunk : (number + 1) * chunk])
            for snapshot in self.snapshots.values():
                snapshot.saved.setdefault(number, old)
        self.content[offset : offset + len(data)] = data

    def resize(self, size: int) -> None:
        """Grow or shrink; LVM allows it only without snapshots, so they are gone."""
        self.snapshots.clear()
        self.content = self.content[:size] + bytes(max(0, size - len(self.content)))


class MemorySource:
    """The change source of one :class:`MemoryVolume`."""

    driver = "memory"
    tracks = True
    consistency = "crash"

    def __init__(self, volume: MemoryVolume) -> None:
        self.volume = volume
        self._time = datetime(2026, 1, 1, tzinfo=UTC)

    async def observe(self, *, again: bool = False) -> HostView:
        seen = tuple(
            SeenSnapshot(f"bs_{i}", i, s.state, used=len(s.saved))  # type: ignore[arg-type]
            for i, s in self.volume.snapshots.items()
        )
        return HostView(self.volume.volume_id, len(self.volume.content), seen)

    async def repair(self) -> list[str]:
        half = [i for i, s in self.volume.snapshots.items() if s.state == "half"]
        for point_id in half:
            del self.volume.snapshots[point_id]
        return [f"removed {i}" for i in half]

    async def take(self, point_id: str) -> Taken:
        if self.volume.room is not None and len(self.volume.snapshots) >= self.volume.room:
            raise CowReserveError(
                "the COW disk is below its reserve", shortage=self.volume.shortage
            )
        content = bytes(self.volume.content)
        self.volume.snapshots[point_id] = Snapshot(instant=content)
        self.volume.instants[point_id] = content
        self._time += timedelta(seconds=1)
        return Taken(point_id, self._time, 0.001, 0.01)

    def open_snapshot(self, point_id: str) -> MemoryReader:
        return MemoryReader(self.volume.snapshots[point_id].instant)

    def changes(self, base_id: str) -> Changes:
        self.check_valid((base_id,))
        chunk, size = self.volume.chunk_size, len(self.volume.content)
        numbers = sorted(self.volume.snapshots[base_id].saved)
        runs: list[list[int]] = []
        for number in numbers:
            start, end = number * chunk, min((number + 1) * chunk, size)
            if runs and runs[-1][1] == start:
                runs[-1][1] = end
            else:
                runs.append([start, end])
        array = np.array(runs, dtype=np.uint64).reshape(-1, 2)
        return Changes(Extents(array[:, 0], array[:, 1]), chunk, len(numbers))

    def saved(self, base_id: str, *, batch_size: int) -> Iterator[SavedBatch]:
        chunk = self.volume.chunk_size
        items = list(self.volume.snapshots[base_id].saved.items())
        per_batch = max(1, batch_size // chunk)
        for at in range(0, len(items), per_batch):
            part = items[at : at + per_batch]
            # Past the end of the volume lie leftovers, as on a real COW device.
            data = [self.volume.lying_chunks.get(n, d).ljust(chunk, b"\xa5") for n, d in part]
            numbers = np.array([n for n, _ in part], dtype=np.uint64)
            yield SavedBatch(chunk, numbers, memoryview(bytearray(b"".join(data))))

    def check_valid(self, point_ids: tuple[str, ...]) -> None:
        for point_id in point_ids:
            snapshot = self.volume.snapshots[point_id]
            if snapshot.state != "good" or snapshot.is_unreadable:
                raise TrackingLostError(f"{point_id} is invalid")

    async def remove(self, point_id: str) -> None:
        self.volume.snapshots.pop(point_id, None)

    def let_go(self, snapshot_id: str) -> None:
        pass


class MemoryReader:
    """Constant bytes as a block reader."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    @property
    def size(self) -> int:
        return len(self._content)

    def read_into(self, offset: int, view: memoryview) -> None:
        part = self._content[offset : offset + len(view)]
        view[:] = part  # a length that differs is a mistake of the caller, and raises

    def close(self) -> None:
        pass

    def __enter__(self) -> MemoryReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
