"""The repository of restore points: a ``ports.PointStore``, and what reads it. Edge (clock).

    repository = Repository.open(url, source_key="/etc/blocksnap/source.key")
    sink = repository.begin(volume_id, point_id, block_size=4096, base=repository.newest(volume_id))

Format: FORMAT.md. Order of writing, locks and leftovers: ``sink.py``, ``files.py``.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from blocksnapd.errors import (
    FormatError,
    KeyMissingError,
    RepositoryFormatError,
    StoreError,
    UsageError,
)
from blocksnapd.model import NO_ACCESS, PointHead
from blocksnapd.packing import FRAME_SIZES, PACKING_DEFAULT
from blocksnapd.store.beginning import check_base, locked, points_of
from blocksnapd.store.check_records import CheckRecords
from blocksnapd.store.epoch_watch import EpochWatch, is_base_tainted
from blocksnapd.store.identity import check_repository, other_repository
from blocksnapd.store.image import Image
from blocksnapd.store.keys import (
    MaintenanceKey,
    RestoreKey,
    SourceKey,
    load_maintenance,
    load_restore,
    load_source,
)
from blocksnapd.store.looks import glance
from blocksnapd.store.names import (
    check_point_id,
    packs_prefix,
    parse_point_name,
    points_prefix,
)
from blocksnapd.store.outline import PointOutline, read_outline
from blocksnapd.store.places import open_store
from blocksnapd.store.point_format import BLOCK_SIZES, POINT_SIZE_MAX, from_us
from blocksnapd.store.point_reader import PointReader, read_header
from blocksnapd.store.redirect import Redirected
from blocksnapd.store.repacked import MovedPacks, Relocated
from blocksnapd.store.seal import digest
from blocksnapd.store.session_log import open_log
from blocksnapd.store.sink import Sink
from blocksnapd.store.stack import open_point
from blocksnapd.store.verify import ObjectCheck, Verifier, VerifyReport

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocksnapd.model import Access, RestorePoint, Wanted
    from blocksnapd.ports import KnownContent
    from blocksnapd.store.check_records import Told
    from blocksnapd.store.objects import ObjectStore
    from blocksnapd.store.point_reader import LoadedPoint
    from blocksnapd.store.redirect import ContentMap
    from blocksnapd.store.stack import Stack


class Repository:
    """One repository, open. Thread-safe; all methods may block on the place."""

    def __init__(
        self,
        store: ObjectStore,
        repository_id: str,
        source: SourceKey | None,
        metadata: MaintenanceKey | None,
        *,
        level: int = PACKING_DEFAULT.level,
        frame_size: int = PACKING_DEFAULT.frame_size,
    ) -> None:
        self._store, self._id, self._source = store, repository_id, source
        self._metadata, self._level, self._frame_size = metadata, level, frame_size
        self._served: set[str] = set()
        self._epochs: dict[str, tuple[str, int]] = {}  # newest point of a volume, and its own

    @classmethod
    def open(
        cls,
        url: str,
        *,
        access: Access = NO_ACCESS,
        source_key: str | SourceKey | None = None,
        maintenance_key: str | MaintenanceKey | None = None,
        restore_key: str | RestoreKey | None = None,
        passphrase: Callable[[], str] | str | None = None,
        level: int = PACKING_DEFAULT.level,
        frame_size: int = PACKING_DEFAULT.frame_size,
    ) -> Repository:
        """Open the repository at ``url`` with the keys at hand: values, or paths of key files.

        Without any key only ``volumes`` and ``outlines`` work; with source_key writing does too;
        with maintenance_key all that reads no content; with restore_key everything. What is
        written is compressed at ``level`` in frames of ``frame_size`` bytes, of ``FRAME_SIZES``.

        Raises:
            UsageError: ``url`` is of a kind that this version cannot open, or there are no such
                frames.
            StoreMissingError: nothing is there, or another repository than the keys'.
            RepositoryFormatError, ChecksumError: repo.json is of another format, or damaged.
            KeyMissingError: a key file cannot be read.
        """
        store = open_store(url, access)
        if isinstance(restore_key, str):
            restore_key = load_restore(restore_key, passphrase)
        if isinstance(maintenance_key, str):
            maintenance_key = load_maintenance(maintenance_key)
        if isinstance(source_key, str):
            source_key = load_source(source_key)
        return cls.on(
            store, source=source_key, maintenance=maintenance_key, restore=restore_key,
            level=level, frame_size=frame_size,
        )  # fmt: skip

    @classmethod
    def on(
        cls,
        store: ObjectStore,
        *,
        source: SourceKey | None = None,
        maintenance: MaintenanceKey | None = None,
        restore: RestoreKey | None = None,
        level: int = PACKING_DEFAULT.level,
        frame_size: int = PACKING_DEFAULT.frame_size,
    ) -> Repository:
        """Open the repository in ``store``; raises as ``open``."""
        if frame_size not in FRAME_SIZES:
            raise UsageError(f"frames cannot have {frame_size} bytes, only {FRAME_SIZES}")
        metadata = restore or maintenance
        if source is None and metadata is not None:
            source = metadata.source
        repository_id = check_repository(store, source)
        for key in (maintenance, restore):
            if key is not None and key.source.repository_id != repository_id:
                raise other_repository(store, repository_id, key.source)
        return cls(store, repository_id, source, metadata, level=level, frame_size=frame_size)

    @property
    def repository_id(self) -> str:
        """32 hex digits."""
        return self._id

    @property
    def hash_key(self) -> bytes:
        """The 32-byte key of block identities.

        Raises:
            KeyMissingError: no key file is at hand.
        """
        return self._source_key().hash_key

    def volumes(self) -> list[str]:
        """Return the ids of all volumes, sorted."""
        return self._store.children("v/")

    def newest(self, volume_id: str) -> PointHead | None:
        """Return the newest committed point; see ``ports.PointStore.newest``."""
        store = glance(self._store, volume_id)
        # A mount point whose disk was taken away is an empty directory without points: all would
        # be shipped again, into the disk below. Another disk may be there by now, too.
        check_repository(store, self._source)
        names = points_of(store, volume_id)
        if not names:
            return None
        if len(names) > 1 and parse_point_name(names[-2]).seq == parse_point_name(names[-1]).seq:
            raise RepositoryFormatError(
                f"volume {volume_id} has two newest points: {names[-2]} and {names[-1]}",
                effect="Two writers were at work; nothing was written now.",
                hint="Decide which daemon protects the volume; move one of the two objects away.",
            )
        # Whoever goes on from this point may remove what it was made of: it must be durable.
        store.settle(points_prefix(volume_id))
        for _ in range(2):  # a disk or network may stumble once
            with contextlib.suppress(FormatError):
                found = self._reader().load_clear(names[-1])
                self._epochs[volume_id] = names[-1], found.header.epoch
                return found.head
        return self._damaged_head(names)

    def wanted(self, volume_id: str) -> Wanted:
        """Return what verification found damaged; see ``ports.PointStore.wanted``."""
        key, store = self._source_key(), glance(self._store, volume_id)
        wanted = CheckRecords(store, key, volume_id).wanted(self._served)
        names = points_of(store, volume_id)
        try:
            tainted = bool(names) and is_base_tainted(
                store, key, volume_id, names[-1], self._epoch(volume_id, names[-1])
            )
        except FormatError:
            tainted = True
        return replace(wanted, afresh=True) if tainted else wanted

    def told(self, volume_id: str) -> Told:
        """Return what verification found whole and damaged; raises as ``wanted``."""
        return CheckRecords(self._store, self._source_key(), volume_id).read()

    def served(self, wanted: Wanted) -> None:
        """Ask for it no more as long as this object lives; maintenance closes the records."""
        self._served.update(wanted.records)

    def begin(
        self, volume_id: str, point_id: str, *, block_size: int, base: PointHead | None,
        known: KnownContent | None = None, log: str = "",
    ) -> Sink:  # fmt: skip
        """Start a point that follows ``base`` (None: the volume's first).

        ``known`` and ``log``: see ``ports.PointStore.begin``.

        Raises:
            BusyError: another writer has the volume.
            ObjectExistsError: ``base`` is not the newest point, or the id was used.
            UsageError: an id is malformed, or the block size is not the volume's.
        """
        key = self._source_key()
        check_point_id(point_id)
        if block_size not in BLOCK_SIZES or (base and base.block_size not in (0, block_size)):
            raise UsageError(f"volume {volume_id} cannot have blocks of {block_size} bytes")
        lock, store = locked(self._store, self._source, volume_id)
        try:
            store.settle(packs_prefix(volume_id))
            check_base(points_of(store, volume_id), point_id, base)
            epoch = self._epoch(volume_id, base.name) if base and not base.is_damaged else 0
            cut = open_log(log, self._id, volume_id, point_id, base, block_size)
            watch = EpochWatch(
                self._store, key, volume_id, base_epoch=epoch, shown=store, since=cut.since
            )
            return Sink(
                self._store, key, lock, volume_id=volume_id, point_id=point_id,
                block_size=block_size, base=base, level=self._level, frame_size=self._frame_size,
                day=time.strftime("%Y%m%d", time.gmtime()), known=known, watch=watch,
                log=cut,
            )  # fmt: skip
        except BaseException:
            lock.release()
            raise

    def names(self, volume_id: str) -> list[str]:
        """Return the names of all points, oldest first; needs no key."""
        return points_of(self._store, volume_id)

    def outline(self, name: str) -> PointOutline | None:
        """Return what a point's clear header says, None if it is damaged; needs no key."""
        with contextlib.suppress(FormatError):
            return read_outline(self._store, name, self._id)
        return None

    def outlines(self, volume_id: str) -> list[PointOutline]:
        """Return what the clear headers say, oldest first; needs no key.

        Points whose header is damaged are left out: verify tells of them. Reads of every point.
        """
        found = map(self.outline, self.names(volume_id))
        return [outline for outline in found if outline is not None]

    def points(self, volume_id: str) -> list[RestorePoint]:
        """Return all points, oldest first; raises as ``load_point``."""
        return [self.load_point(name) for name in self.names(volume_id)]

    def load_point(self, name: str) -> RestorePoint:
        """Return one point.

        Raises:
            NotFoundError: there is none of that name. KeyMissingError: no restore.key.
            ChecksumError, RepositoryFormatError: it is damaged.
        """
        return self._reader().load(name).point

    def open_image(self, point: RestorePoint | str) -> Image:
        """Return the image of a point, or of the point of that name; raises as ``load_point``.

        Reads the few merged layers that lead to it, or all points back to the nearest full one.
        """
        reader, key = self._reader(), self._restore_key()
        wanted = (point, "") if isinstance(point, str) else (point.name, point.digest)
        loaded, stack = open_point(self._store, reader, *wanted)
        return Image(self._store, key, loaded.point, self._content(loaded, stack))

    def verify(
        self,
        point: RestorePoint | str,
        *,
        data: bool = True,
        progress: Callable[[int, int], None] | None = None,
    ) -> VerifyReport:
        """Read what a point needs and tell what is damaged; see ``verify.py``.

        ``data`` False reads structure only: points, and the tails of packs.

        Raises:
            KeyMissingError: no restore.key, or without data no key for metadata.
            NotFoundError: there is no such point.
        """
        if data:
            self._restore_key()
        name = point if isinstance(point, str) else point.name
        verifier = Verifier(self._store, self._reader(), self._content, progress)
        return verifier.verify(name, with_data=data)

    def history(self, volume_id: str) -> tuple[ObjectCheck, ...]:
        """Check tag and chain of every point of a volume, oldest first; needs no restore.key."""
        return Verifier(self._store, self._reader()).history(volume_id)

    def _content(self, loaded: LoadedPoint, stack: Stack) -> ContentMap:
        # Where content lies now, which is not where layers say if maintenance moved or mended it.
        header, manifest = loaded.object.header, stack.manifest
        volume_id, block_size = header.volume_id, header.block_size
        found: ContentMap = stack
        if manifest.patches:
            found = Redirected(found, manifest.patches, volume_id=volume_id, block_size=block_size)
        if manifest.moved:
            moved = MovedPacks(
                self._store,
                self._reader().metadata_key,
                manifest.moved,
                volume_id=volume_id,
                block_size=block_size,
            )
            found = Relocated(found, moved)
        return found

    def _damaged_head(self, names: list[str]) -> PointHead:
        # Protection goes on: a full point follows, chained to the damaged bytes as they are.
        name, said = names[-1], parse_point_name(names[-1])
        read = {digest(self._store.get(name, size_max=POINT_SIZE_MAX)) for _ in range(2)}
        if len(read) > 1:
            raise StoreError(
                f"{name} reads differently each time",
                effect="Nothing was shipped; the volume's snapshot is kept for the next try.",
                hint="Look after the disk, cable or network that the repository is reached by.",
            )
        return PointHead(
            name=name, digest=read.pop(), seq=said.seq, point_id=said.point_id, time=from_us(0),
            size=0, block_size=self._block_size(names[:-1]), state_sum=0, is_damaged=True,
        )  # fmt: skip

    def _block_size(self, names: list[str]) -> int:
        # Of the newest of these points that can be read; 0: of none.
        for name in reversed(names):
            with contextlib.suppress(FormatError):
                return self._reader().load_clear(name).header.block_size
        return 0

    def _epoch(self, volume_id: str, name: str) -> int:
        # Of a point; that of the newest was read with it.
        known, epoch = self._epochs.get(volume_id, ("", 0))
        return epoch if known == name else read_header(self._store, name, self._id).epoch

    def _reader(self) -> PointReader:
        return PointReader(self._store, self._source_key(), self._metadata)

    def _restore_key(self) -> RestoreKey:
        if not isinstance(self._metadata, RestoreKey):
            raise KeyMissingError(
                "reading the content of a point takes restore.key, which is not at hand here",
                effect="Nothing was read. Writing points goes on without it.",
                hint="Run this where restore.key is, or name it.",
            )
        return self._metadata

    def _source_key(self) -> SourceKey:
        if self._source is None:
            raise KeyMissingError(
                "no key of the repository is at hand",
                effect="Nothing was read or written.",
                hint="Name source.key to write, restore.key to read.",
            )
        return self._source
