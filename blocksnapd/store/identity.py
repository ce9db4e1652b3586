"""Which repository a place holds, and whether it is the one of the keys at hand. Edge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocksnapd.errors import ChecksumError, RepositoryFormatError, StoreMissingError
from blocksnapd.store.names import REPOSITORY_NAME
from blocksnapd.store.repo_file import SIZE_MAX, unpack_repository
from blocksnapd.store.seal import digest

if TYPE_CHECKING:
    from blocksnapd.store.keys import SourceKey
    from blocksnapd.store.objects import ObjectStore

_BRING_BACK = "Bring repo.json back from a copy; all other objects may be whole."


def check_repository(store: ObjectStore, source: SourceKey | None) -> str:
    """Return the id of the repository in ``store``, which is that of ``source`` if given.

    Raises:
        StoreMissingError: there is none, or another one.
        RepositoryFormatError: it is of another format.
        ChecksumError: repo.json or the key file is damaged.
    """
    try:
        data = store.get(REPOSITORY_NAME, size_max=SIZE_MAX)
    except StoreMissingError as error:
        raise StoreMissingError(
            f"there is no repository in {store.url}",
            effect="Nothing was read or written; the snapshot goes on tracking.",
            hint="Mount it or correct the URL; blocksnapd init makes a new repository.",
        ) from error
    try:
        found = unpack_repository(data)
    except RepositoryFormatError as error:
        error.effect = error.effect or "Nothing was read or written."
        error.hint = error.hint or _BRING_BACK
        raise
    repository_id = found.repository_id
    if source is None:
        return repository_id
    if source.repository_id != repository_id:
        raise other_repository(store, repository_id, source)
    if source.repository_digest != digest(data):
        raise ChecksumError(
            f"repo.json in {store.url} is not the one that init wrote",
            effect="Nothing was read or written.",
            hint=_BRING_BACK,
        )
    if source.fingerprint != found.keys:
        raise ChecksumError(
            "the key file is damaged: its keys are not those of the repository",
            effect="Nothing was read or written: what it seals could never be opened.",
            hint="Bring the key file back from a copy.",
        )
    return repository_id


def other_repository(
    store: ObjectStore, repository_id: str, source: SourceKey
) -> StoreMissingError:
    """Return the error for keys of another repository than ``repository_id``."""
    return StoreMissingError(
        f"{store.url} holds repository {repository_id[:8]}…, the key is of "
        f"{source.repository_id[:8]}…",
        effect="Nothing was read or written; the snapshot goes on tracking.",
        hint="Mount the right disk, or name the right key files.",
    )
