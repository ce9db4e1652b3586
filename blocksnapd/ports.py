"""The Protocols where the verbs meet; ``daemon.py`` hands the implementations in. Pure.

Methods that are not ``async`` may block on a disk: call them in a thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from types import TracebackType

    from blocksnapd.model import (
        U8,
        U64,
        Changes,
        Extents,
        HostView,
        PointFacts,
        PointHead,
        RestorePoint,
        SavedBatch,
        Taken,
        Wanted,
    )

T = TypeVar("T")


class Clock(Protocol):
    """Time, handed in so that tests need not wait."""

    def now(self) -> float:
        """Return seconds since the epoch, UTC."""

    def monotonic(self) -> float:
        """Return seconds that never jump."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


class BlockReader(Protocol):
    """Bytes of constant content: a snapshot, an image, a file. Blocking; for several threads."""

    @property
    def size(self) -> int:
        """Bytes in all."""

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill ``view`` from ``offset``; offset and length are multiples of 512.

        Raises:
            HostError: the device failed or ended before ``view`` was full.
        """

    def close(self) -> None:
        """Let the file descriptor go; a second call does nothing."""

    def __enter__(self) -> BlockReader: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...  # fmt: skip


class Exceptions(Protocol):
    """The exception table of one COW device, in allocation order."""

    @property
    def chunk_size(self) -> int:
        """Bytes per chunk."""

    @property
    def old(self) -> U64:
        """Origin chunk numbers, shape (n,), no repeats."""

    @property
    def new(self) -> U64:
        """COW chunk numbers that hold the old content, shape (n,)."""


class CowReader(Protocol):
    """An open COW device. Blocking; close it before the snapshot is removed."""

    def table(self, *, origin_size: int, entries_max: int) -> Exceptions:
        """Read the whole exception table afresh, past every cache.

        Raises:
            CowInvalidError: the kernel gave the snapshot up.
            CowFormatError: the bytes are not a persistent snapshot's, or list more entries
                than ``entries_max``.
            HostError: the device failed.
        """

    def check_valid(self) -> None:
        """Read the header afresh.

        Raises:
            CowInvalidError: the kernel gave the snapshot up since.
        """

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill ``view`` with the COW device's bytes from ``offset`` (multiples of 512)."""

    def close(self) -> None:
        """Let the file descriptor go; a second call does nothing."""


class ChangeSource(Protocol):
    """How one volume's changes are tracked; snapshots are known by the id of their point."""

    @property
    def driver(self) -> str:
        """The driver's name, as in the configuration."""

    @property
    def tracks(self) -> bool:
        """Whether ``changes`` can leave anything out."""

    @property
    def consistency(self) -> str:
        """What is known of the last point's instant; ask after its last byte was read."""

    async def observe(self, *, again: bool = False) -> HostView:
        """Look at the volume and at every snapshot of ours on it.

        ``again``: not the first look of a run, so that what was just seen may do.

        Raises:
            VolumeError: it is missing or is not what this driver needs.
        """

    async def repair(self) -> list[str]:
        """Repair every half-done state an interrupted command left; tell what was done.

        The origin is writable afterwards. Snapshots whose state is ``half`` are gone.
        """

    async def take(self, point_id: str) -> Taken:
        """Take the snapshot for ``point_id``, after a sync of the file system.

        Raises:
            SpaceError, LvmError, RefusedError: nothing was left behind.
        """

    def open_snapshot(self, point_id: str) -> BlockReader:
        """Open the content of the volume at the instant of ``point_id``."""

    def changes(self, base_id: str) -> Changes:
        """Return what may have changed since the snapshot of ``base_id``.

        Raises:
            TrackingLostError: that snapshot is invalid or its table is damaged.
        """

    def saved(self, base_id: str, *, batch_size: int) -> Iterator[SavedBatch]:
        """Yield the old content of every changed chunk, at most ``batch_size`` bytes at a time.

        The memory of a batch is used again for the next but one.
        """

    def check_valid(self, point_ids: tuple[str, ...]) -> None:
        """Make sure that these snapshots were whole up to now.

        Raises:
            TrackingLostError: one of them is not.
        """

    async def remove(self, point_id: str) -> None:
        """Remove the snapshot of ``point_id`` and give its space back; none there is success."""


class KnownContent(Protocol):
    """What the source remembers of where content lies. One thread.

    ``find`` and ``pack`` tell of the newest committed point, which nobody prunes: what it needs
    may be referred to. ``note`` is for the point under way, the newest of tomorrow.
    """

    def find(self, hashes: U8) -> U64:
        """Return the location of content of each identity, shape (n,).

        ``model.KNOWN_PACK`` is set in each; ``NOWHERE`` where none is known.
        """

    def pack(self, number: int) -> bytes:
        """Return what ``PointSink.finish`` told of the pack that ``find`` numbers so."""

    def note(self, blocks: U64, hashes: U8, locations: U64) -> None:
        """Learn where ``blocks`` of the point under way lie.

        ``KNOWN_PACK`` is set for packs that ``find`` numbered; others count in what
        ``PointSink.finish`` will return.
        """


class PointSink(Protocol):
    """Takes one new restore point, block by block, then commits it. One thread; blocking.

    Nothing is a point before ``commit`` returned; ``abort`` (or death) leaves only
    objects that no point names.
    """

    def add(self, blocks: U64, hashes: U8, data: memoryview) -> None:
        """Take ``n`` blocks with content; what the repository has already is not stored again.

        Args:
            blocks: block numbers, shape (n,), ascending, and above those of earlier calls.
            hashes: identity of each, shape (n, 16).
            data: ``n * block_size`` bytes; may be used again after return. The last block of an
                image that is no multiple of the block size comes padded with zeros.
        """

    def add_zeros(self, starts: U64, counts: U64) -> None:
        """Take runs of blocks that are all zero now; ascending, disjoint, above earlier calls."""

    @property
    def shipped_bytes(self) -> int:
        """Raw bytes put into the repository so far."""

    @property
    def deduplicated_bytes(self) -> int:
        """Raw bytes taken by ``add`` so far that the repository had already."""

    @property
    def stored_bytes(self) -> int:
        """Bytes written to the repository so far."""

    def finish(self, facts: PointFacts) -> list[bytes]:
        """Make all content durable; return a record of each pack of this session, in order.

        What a later session's ``KnownContent.pack`` is to return: at most 224 bytes each.

        Raises:
            StoreFullError, StoreError: there is nothing to commit; abort.
        """

    def commit(self, facts: PointFacts) -> RestorePoint:
        """Commit the point, all or nothing; ``facts`` are those of ``finish``, if it was called.

        Raises:
            ObjectExistsError: another point took this place in the chain.
            StoreFullError, StoreError: not committed; the earlier points are untouched.
        """

    def abort(self) -> None:
        """Give up; remove what can be removed."""


class PointStore(Protocol):
    """Where points of volumes are kept, as the source sees it. Blocking."""

    @property
    def hash_key(self) -> bytes:
        """The 32-byte key of block identities."""

    def newest(self, volume_id: str) -> PointHead | None:
        """Return the newest committed point of the volume; needs no private key.

        Of one that is damaged only the place in the chain is told, see ``PointHead.is_damaged``.

        Raises:
            StoreError: the place failed. RepositoryFormatError: two points are the newest.
        """

    def wanted(self, volume_id: str) -> Wanted:
        """Return what the next point should ship again; nothing that was ``served``.

        Raises:
            StoreError: the place failed.
        """

    def served(self, wanted: Wanted) -> None:
        """Learn that a point was committed that did what ``wanted`` asks."""

    def begin(
        self,
        volume_id: str,
        point_id: str,
        *,
        block_size: int,
        base: PointHead | None,
        known: KnownContent | None = None,
        log: str = "",
    ) -> PointSink:
        """Start a point that follows ``base`` (None: the volume's first).

        ``known`` tells of the content of ``base``; without it nothing older is referred to.
        ``log`` is a file of the source's own: what was put for this ``point_id`` is noted there,
        so that after a cut none of it is sent again. Empty: no notes are taken.
        """


class PointImage(Protocol):
    """A restore point seen as a disk. Blocking; safe for several threads."""

    @property
    def size(self) -> int:
        """Bytes of the image."""

    @property
    def block_size(self) -> int:
        """Bytes per block."""

    @property
    def point(self) -> RestorePoint:
        """The point it shows."""

    def data_extents(self, start: int = 0, end: int | None = None) -> Extents:
        """Return where the image has content; everything else is zero.

        Args:
            start: only from this byte on.
            end: and up to this one; the time and memory it takes go with what lies between.
        """

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill ``view`` with the image's bytes from ``offset``, any alignment, checked.

        Raises:
            ChecksumError, RepositoryFormatError: the repository's bytes are damaged there.
        """

    def pieces(self) -> Iterator[tuple[U64, memoryview]]:
        """Yield all content, in the order the repository holds it: (block numbers, their bytes).

        Every block with content comes exactly once, checked against its identity; the
        memory may be used again after the next step. Fast, parallel inside, bounded memory.
        """

    def each_piece(self, work: Callable[[U64, memoryview], T]) -> Generator[T, None, None]:
        """Yield what ``work`` returns for each piece that ``pieces`` would yield.

        ``work`` is called in several threads, a few pieces ahead of the caller; once the iterator
        is closed it is not called any more. Its bytes are its own until it returns.
        """

    def close(self) -> None:
        """Let files and memory go."""
