"""What a restore under way has brought to the disk, remembered beside its target. Edge.

    BSRESUME1 and what is restored, as a line of JSON
    batch     xxh3 of the rest (8) | runs (4) | content sum (16) | runs of u64 start, u64 length
    ...

A batch is added after its blocks were synced. Whoever goes on reads them back and compares their
sum: a journal is never believed, only asked where to look. It is read up to the first batch that a
crash tore; one of another point or by another owner is none at all.
"""

from __future__ import annotations

import json
import os
import stat
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from blocksnapd.runtime import durable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from blocksnapd.model import U64

JOURNAL_SUFFIX = ".blocksnap-journal"
JOURNALS = "/var/lib/blocksnap/restores"  # root's, of restores to devices
NEW_SUFFIX = ".new"
MAGIC = b"BSRESUME1 "
HEAD_SIZE_MAX = 64 * 1024
RUNS_MAX = 1 << 24
JOURNAL_SIZE_MAX = 4 << 30
_FRAME = struct.Struct("<8sI16s")


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Blocks that are on the disk: runs, ascending and disjoint, and their ``content_sum``."""

    starts: U64
    lengths: U64
    content_sum: int

    def pack(self) -> bytes:
        """Return its bytes in the journal."""
        columns = np.column_stack([self.starts, self.lengths]).astype("<u8").tobytes()
        body = struct.pack("<I16s", len(self.starts), self.content_sum.to_bytes(16, "little"))
        return xxhash.xxh3_64_digest(body + columns) + body + columns


class Journal:
    """One journal. Blocking.

    Args:
        path: its file.
        about: what is restored; only a journal about the very same is gone on with.
    """

    def __init__(self, path: str, about: Mapping[str, Any]) -> None:
        self.path = path
        self._head = MAGIC + json.dumps(about, sort_keys=True).encode() + b"\n"
        assert len(self._head) <= HEAD_SIZE_MAX

    def read(self) -> list[Batch]:
        """Return the batches that are there whole; none of what is not ours."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return []
        with os.fdopen(fd, "rb") as file:
            facts = os.fstat(fd)
            is_ours = stat.S_ISREG(facts.st_mode) and facts.st_uid == os.geteuid()
            if not is_ours or facts.st_size > JOURNAL_SIZE_MAX:
                return []
            if file.read(len(self._head)) != self._head:
                return []
            return list(_batches(file.read))

    def blocks(self) -> int:
        """Return how many blocks the batches tell of; whether rightly, nobody looked."""
        return sum(int(batch.lengths.sum(dtype=np.uint64)) for batch in self.read())

    def start(self, batches: Iterable[Batch] = ()) -> None:
        """Begin anew with ``batches``, durably, in place of whatever has this name.

        Raises:
            OSError: it cannot be written.
        """
        new = self.path + NEW_SUFFIX
        with suppress(FileNotFoundError):
            os.unlink(new)  # of one that was killed here
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(new, flags, 0o600)
        try:
            durable.write_all(fd, b"".join([self._head, *(b.pack() for b in batches)]))
            durable.sync_file(fd)
        finally:
            os.close(fd)
        durable.publish_over(new, self.path)

    def add(self, batch: Batch) -> None:
        """Remember a batch, durably.

        Raises:
            OSError: it cannot be written.
        """
        durable.append(self.path, batch.pack())

    def remove(self) -> None:
        """Remove it; none there is success."""
        durable.remove(self.path)


def left_in(directory: str) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the path and the ``about`` of each journal in a directory, by name; none of others.

    Blocking. What cannot be read is left out.
    """
    found = []
    with suppress(OSError):
        for name in sorted(os.listdir(directory)):
            path = os.path.join(directory, name)
            if name.endswith(JOURNAL_SUFFIX) and (about := _about(path)) is not None:
                found.append((path, about))
    return found


def _about(path: str) -> Mapping[str, Any] | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            head = file.read(HEAD_SIZE_MAX) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
        about = json.loads(head.partition(b"\n")[0].removeprefix(MAGIC))
    except (OSError, ValueError, RecursionError):
        return None
    return about if head.startswith(MAGIC) and isinstance(about, dict) else None


def _batches(read: Any) -> Iterator[Batch]:
    while len(frame := read(_FRAME.size)) == _FRAME.size:
        digest, count, content_sum = _FRAME.unpack(frame)
        if count > RUNS_MAX:
            return
        columns = read(16 * count)
        if xxhash.xxh3_64_digest(frame[8:] + columns) != digest:
            return
        runs = np.frombuffer(columns, "<u8").reshape(-1, 2).astype(np.uint64)
        batch = Batch(runs[:, 0], runs[:, 1], int.from_bytes(content_sum, "little"))
        if not _is_sound(batch):
            return
        yield batch


def _is_sound(batch: Batch) -> bool:
    """Return whether the runs are not empty, ascend, are disjoint and end below 2**48."""
    if (batch.starts >> np.uint64(48)).any() or (batch.lengths >> np.uint64(48)).any():
        return False
    ends = batch.starts + batch.lengths
    return bool((batch.lengths > 0).all() and (batch.starts[1:] >= ends[:-1]).all())
