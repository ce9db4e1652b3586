"""The manifests of a volume: the newest genuine one, and the next. Edge. Thread-safe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocksnapd.errors import FormatError, StoreError, StoreMissingError
from blocksnapd.store.manifest_format import (
    MANIFEST_SIZE_MAX,
    LoadedManifest,
    Manifest,
    ManifestHeader,
    pack_manifest,
    unpack_manifest,
)
from blocksnapd.store.names import (
    manifest_name,
    manifests_prefix,
    parse_manifest_name,
)

if TYPE_CHECKING:
    from blocksnapd.store.keys import MaintenanceKey
    from blocksnapd.store.objects import ObjectStore


class Manifests:
    """Reads and publishes manifests of one repository."""

    def __init__(self, store: ObjectStore, key: MaintenanceKey) -> None:
        self._store, self._key = store, key

    def generations(self, volume_id: str) -> list[int]:
        """Return the generations there are, ascending.

        What is decided by an old generation undoes what newer ones told, so a listing that was cut
        short must not pass for all there is.

        Raises:
            StoreError: the place failed, or went on leaving out one that is there.
        """
        for _ in range(2):
            found = self._listed(volume_id)
            following = manifest_name(volume_id, found[-1] + 1 if found else 1)
            if found and not self._store.exists(following):
                return found
        if not self._store.exists(following):
            return found  # twice none at all: the volume is new
        raise StoreError(
            f"the listing of manifests left out {following}, which is there",
            effect="Nothing was decided; nothing was changed.",
            hint="Try again; if it stays so, look after the disk or the file system.",
        )

    def _listed(self, volume_id: str) -> list[int]:
        found = []
        for name in self._store.list_names(manifests_prefix(volume_id)):
            try:
                found.append(parse_manifest_name(name)[1])
            except FormatError:
                continue  # not a manifest; verify reports it
        return sorted(found)

    def newest(self, volume_id: str) -> LoadedManifest:
        """Return the newest generation; the empty one when there is none. For maintenance.

        Raises:
            ChecksumError, RepositoryFormatError: the newest one is damaged: nothing may be decided
                without what it says.
        """
        generations = self.generations(volume_id)
        if not generations:
            return LoadedManifest(volume_id, 0, "", 0, Manifest())
        # Whoever goes on from it deletes by it: it must not vanish with the power.
        self._store.settle(manifests_prefix(volume_id))
        return self.load(volume_id, generations[-1])

    def readable(self, volume_id: str) -> tuple[LoadedManifest, list[str]]:
        """Return the newest genuine generation, and what is wrong with newer ones. For reading.

        An older generation opens the same points: what it names is deleted only long after it
        was replaced.
        """
        problems: list[str] = []
        for generation in reversed(self.generations(volume_id)):
            try:
                return self.load(volume_id, generation), problems
            except (FormatError, StoreMissingError) as error:
                problems.append(f"{manifest_name(volume_id, generation)}: {error.message}")
        return LoadedManifest(volume_id, 0, "", 0, Manifest()), problems

    def load(self, volume_id: str, generation: int) -> LoadedManifest:
        """Return one generation; raises as ``newest``, and StoreMissingError."""
        name = manifest_name(volume_id, generation)
        return self._read(self._store.get(name, size_max=MANIFEST_SIZE_MAX), name)

    def publish(self, after: LoadedManifest, manifest: Manifest, *, time_us: int) -> LoadedManifest:
        """Make ``manifest`` the generation after ``after``; durable on return.

        Raises:
            ObjectExistsError: somebody else published it: load again and decide again.
            RepositoryFormatError: ``manifest`` contradicts itself; nothing was published.
            StoreFullError, StoreError: nothing was published, or its acknowledgement was lost:
                loading tells.
        """
        source = self._key.source
        header = ManifestHeader(
            repository_id=source.repository_id, volume_id=after.volume_id,
            generation=after.generation + 1, prev_digest=after.digest, time_us=time_us,
        )  # fmt: skip
        data = pack_manifest(
            header, manifest, metadata_public=source.metadata_public, hash_key=source.hash_key
        )
        # What no reader would take must not become the newest: nothing could go on from it.
        made = self._read(data, header.name)
        self._store.put(header.name, [data])
        return made

    def _read(self, data: bytes, name: str) -> LoadedManifest:
        source = self._key.source
        return unpack_manifest(
            data, name, source.repository_id,
            hash_key=source.hash_key, metadata_private=self._key.metadata_private,
        )  # fmt: skip
