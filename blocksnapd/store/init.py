"""Making a new repository and its keys. Edge."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from textwrap import fill
from typing import TYPE_CHECKING

from blocksnapd.errors import UsageError
from blocksnapd.model import NO_ACCESS
from blocksnapd.store.keys import (
    bind_keys,
    new_keys,
    pack_maintenance,
    pack_restore,
    pack_source,
    save,
)
from blocksnapd.store.names import REPOSITORY_NAME
from blocksnapd.store.new_place import make_place
from blocksnapd.store.places import own_directories
from blocksnapd.store.repo_file import pack_repository
from blocksnapd.store.seal import digest

if TYPE_CHECKING:
    from blocksnapd.model import Access
    from blocksnapd.store.keys import KdfCost
    from blocksnapd.store.objects import ObjectStore


@dataclass(frozen=True, slots=True)
class InitReport:
    """What was made, and in plain words what to do with it."""

    url: str
    repository_id: str
    source_key: str
    maintenance_key: str
    restore_key: str
    is_sealed: bool
    notes: tuple[str, ...] = ()

    def advice(self) -> str:
        """Return what to store where, as lines for a terminal."""
        seal = (
            "It is sealed by your passphrase: without both, nothing can be restored."
            if self.is_sealed
            else "It has no passphrase: whoever has this file reads every point."
        )
        return (
            f"Repository {self.repository_id} was made in {self.url}\n"
            "\n"
            f"  {self.source_key}\n"
            "    stays on the host that is protected. It writes restore points and reads none.\n"
            f"  {self.maintenance_key}\n"
            "    stays where the repository is maintained (pruned, verified), mostly on this host\n"
            "    too. It sees which blocks changed when, and reads no content.\n"
            f"  {self.restore_key}\n"
            "    reads all restore points. Copy it to two places that are neither this host nor\n"
            "    the repository (a password manager, a stick in a safe), then remove it from this\n"
            "    host unless this host shall restore by itself.\n"
            f"    {seal}\n"
            "\n"
            "Lost keys cannot be made again, by nobody. Restore something today to see that you "
            "can.\n"
        ) + "".join(f"\n{fill(note, 98)}\n" for note in self.notes)


def init_repository(
    url: str,
    keys_dir: str,
    passphrase: str | None = None,
    *,
    kdf_cost: KdfCost | None = None,
    access: Access = NO_ACCESS,
) -> InitReport:
    """Make a repository in ``url``, and its three key files in ``keys_dir``.

    Raises:
        UsageError: ``url`` is of an unknown kind, or a key file exists.
        RefusedError: there is a repository, or something else, in the place; or it is of a kind
            that would lose points.
        StoreError: the place or the directory of the keys cannot be written.
        KeyMissingError: the place cannot be opened with these credentials.
    """
    for directory in own_directories(url):
        if os.path.commonpath([directory, os.path.abspath(keys_dir)]) == directory:
            raise UsageError(
                f"{keys_dir} is inside the repository",
                effect="Nothing was made.",
                hint="Keep the keys elsewhere: beside the data they protect nothing.",
            )
    place = make_place(url, access)
    return init_in(place.store, keys_dir, passphrase, kdf_cost=kdf_cost, notes=place.notes)


def init_in(
    store: ObjectStore,
    keys_dir: str,
    passphrase: str | None = None,
    *,
    kdf_cost: KdfCost | None = None,
    notes: tuple[str, ...] = (),
) -> InitReport:
    """Make a repository in the empty ``store``; raises as ``init_repository``.

    The keys come first, ``repo.json`` last: a repository without keys can never be.
    """
    repository_id = secrets.token_hex(16)
    keys = new_keys(repository_id)
    data = pack_repository(repository_id, datetime.now(UTC), keys.source.fingerprint)
    keys = bind_keys(keys, digest(data))
    report = InitReport(
        url=store.url,
        repository_id=repository_id,
        source_key=os.path.join(os.path.abspath(keys_dir), "source.key"),
        maintenance_key=os.path.join(os.path.abspath(keys_dir), "maintenance.key"),
        restore_key=os.path.join(os.path.abspath(keys_dir), "restore.key"),
        is_sealed=passphrase is not None,
        notes=notes,
    )
    save(report.restore_key, pack_restore(keys, passphrase, kdf_cost))
    save(report.maintenance_key, pack_maintenance(keys))
    save(report.source_key, pack_source(keys.source))
    store.put(REPOSITORY_NAME, [data])
    return report
