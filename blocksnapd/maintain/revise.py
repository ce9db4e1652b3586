"""The next generation of a manifest, decided anew as long as somebody else is faster. Edge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocksnapd.errors import BusyError, ObjectExistsError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocksnapd.store.manifest_format import LoadedManifest, Manifest
    from blocksnapd.store.manifests import Manifests

TRIES_MAX = 20


def revise(
    manifests: Manifests,
    volume_id: str,
    change: Callable[[LoadedManifest], Manifest],
    *,
    now_us: Callable[[], int],
    basis: LoadedManifest | None = None,
) -> LoadedManifest:
    """Publish what ``change`` makes of the newest generation, if that differs; return the newest.

    ``basis`` is the generation that was looked at to decide what ``change`` does, where it holds
    for no other.

    Raises:
        BusyError: others went on changing it, or the newest is not ``basis``. Whatever ``change``
            raises: nothing was published.
        ChecksumError, RepositoryFormatError, StoreError: the newest cannot be read, or the next
            not be written.
    """
    for _ in range(TRIES_MAX):
        loaded = manifests.newest(volume_id)
        if basis is not None and loaded.digest != basis.digest:
            break
        wanted = change(loaded)
        if wanted == loaded.manifest:
            return loaded
        try:
            return manifests.publish(loaded, wanted, time_us=now_us())
        except StoreError as error:
            # A lost answer is no failure: what counts is what is there now.
            found = manifests.newest(volume_id)
            if found.generation == loaded.generation + 1 and found.manifest == wanted:
                return found
            if not isinstance(error, ObjectExistsError):
                raise
    raise BusyError(
        f"others went on changing what is known of {volume_id}",
        effect="Nothing was changed.",
        hint="Try again in a while.",
    )
