"""Reading points. Edge. Thread-safe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from blocksnapd.errors import KeyMissingError, NotFoundError, StoreMissingError
from blocksnapd.model import RestorePoint
from blocksnapd.store.clear import HEADER_SIZE_MAX, PREFIX_SIZE
from blocksnapd.store.layers import PackPlace, pack_places
from blocksnapd.store.point_format import (
    POINT_SIZE_MAX,
    Body,
    PointObject,
    facts_of,
    open_body,
    salvage_point,
    unpack_header,
    unpack_point,
)

if TYPE_CHECKING:
    from blocksnapd.store.keys import MaintenanceKey, SourceKey
    from blocksnapd.store.objects import ObjectStore
    from blocksnapd.store.point_format import Header


@dataclass(frozen=True, slots=True)
class LoadedPoint:
    """A point with its sealed part open."""

    object: PointObject
    body: Body

    @property
    def point(self) -> RestorePoint:
        """The point for everyone else."""
        header = self.object.header
        packs = self.body.packs[: -1 if header.inline_size else None]
        own = [pack for pack in packs if f"/{header.point_id}-" in pack.name]
        return RestorePoint(
            facts=facts_of(header, self.body), seq=header.seq, name=header.name,
            digest=self.object.digest, prev_name=header.prev_name,
            prev_digest=header.prev_digest, shipped_bytes=self.body.shipped_bytes,
            stored_bytes=self.object.size + sum(pack.size for pack in own),
            deduplicated_bytes=self.body.deduplicated_bytes,
        )  # fmt: skip

    def places(self) -> list[PackPlace]:
        """Return where its packs are.

        Raises:
            RepositoryFormatError: the inline pack is not as large as said.
        """
        return pack_places(self.object.header, self.body, self.object.inline_at)


class PointReader:
    """Reads points of one repository with the keys at hand."""

    def __init__(
        self, store: ObjectStore, source: SourceKey, metadata: MaintenanceKey | None
    ) -> None:
        self._store, self._source, self._metadata = store, source, metadata

    @property
    def metadata_key(self) -> MaintenanceKey:
        """The key that opens points, layers and tables.

        Raises:
            KeyMissingError: it is not at hand.
        """
        if self._metadata is None:
            raise KeyMissingError(
                "reading a point takes maintenance.key or restore.key, and neither is at hand here",
                effect="Nothing was read. Writing points goes on without it.",
                hint="Run this where one of them is, or name it.",
            )
        return self._metadata

    def load_clear(self, name: str) -> PointObject:
        """Return a point's object, genuine and whole, its sealed part still closed.

        Raises:
            NotFoundError: there is none of that name.
            ChecksumError, RepositoryFormatError: it is damaged or of another format.
        """
        try:
            data = self._store.get(name, size_max=POINT_SIZE_MAX)
        except StoreMissingError as error:
            raise NotFoundError(f"there is no point {name}", hint=error.hint) from error
        return unpack_point(data, name, self._source.repository_id, self._source.hash_key)

    def salvage(self, name: str, digest: str = "") -> LoadedPoint:
        """Return a damaged point whose sealed part is whole, for those that follow it.

        ``digest`` is what the next point calls it. The inline pack may be damaged.

        Raises:
            ChecksumError, RepositoryFormatError: the sealed part is damaged, too.
            NotFoundError, KeyMissingError: as ``load``.
        """
        private = self.metadata_key.metadata_private
        try:
            data = self._store.get(name, size_max=POINT_SIZE_MAX)
        except StoreMissingError as error:
            raise NotFoundError(f"there is no point {name}", hint=error.hint) from error
        found = salvage_point(data, name, self._source.repository_id, digest)
        return LoadedPoint(found, open_body(found, private))

    def load(self, name: str) -> LoadedPoint:
        """Return a point with its sealed part; raises as ``load_clear``, and KeyMissingError."""
        private = self.metadata_key.metadata_private
        found = self.load_clear(name)
        return LoadedPoint(found, open_body(found, private))


def read_header(store: ObjectStore, name: str, repository_id: str) -> Header:
    """Return the clear header of a point, not authenticated; reads nothing else and needs no key.

    Raises:
        StoreMissingError: there is no such point. StoreError: the place failed.
        RepositoryFormatError: it is not the header of a point of that name and repository.
    """
    start = store.get_range(name, 0, PREFIX_SIZE + HEADER_SIZE_MAX)
    return unpack_header(start, name, repository_id)[0]
