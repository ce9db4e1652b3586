"""What a session looks at before its first byte: the lock, the place, the newest point. Edge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocksnapd.errors import ObjectExistsError
from blocksnapd.store.identity import check_repository
from blocksnapd.store.looks import Looks, glance
from blocksnapd.store.names import check_free, is_point_name, points_prefix, volume_prefix
from blocksnapd.store.together import together

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blocksnapd.model import PointHead
    from blocksnapd.store.keys import SourceKey
    from blocksnapd.store.objects import Lock, ObjectStore


def locked(
    store: ObjectStore, source: SourceKey | None, volume_id: str
) -> tuple[Lock, ObjectStore]:
    """Return the volume's lock, and ``store`` as it is now.

    Both are asked for at once where the place looks by itself: what came between the two is found
    before the commit, as whatever comes later.

    Raises:
        BusyError: another writer has the volume. Others: as ``check_repository``.
    """
    prefix = volume_prefix(volume_id)
    if not isinstance(store, Looks):
        check_repository(store, source)  # a lock makes directories: never below a mount point
        return store.lock(prefix), store
    locks: list[Lock] = []
    shown: list[ObjectStore] = []
    try:
        together(
            lambda: locks.append(store.lock(prefix)),
            lambda: shown.append(glance(store, volume_id)),
        )
        check_repository(shown[0], source)
    except BaseException:
        for lock in locks:
            lock.release()
        raise
    return locks[0], shown[0]


def points_of(store: ObjectStore, volume_id: str) -> list[str]:
    """Return the names of all points, oldest first."""
    return [name for name in store.list_names(points_prefix(volume_id)) if is_point_name(name)]


def check_base(names: Iterable[str], point_id: str, base: PointHead | None) -> None:
    """Make sure that a point ``point_id`` may follow ``base``; ``names`` are the points there.

    Raises:
        ObjectExistsError: ``base`` is not the newest point, or the id was used.
    """
    newest = ""
    for name in names:
        check_free(name, base.seq + 1 if base else 1, point_id)
        newest = name
    if base and newest != base.name:
        raise ObjectExistsError(
            f"point {base.point_id} is not the newest of volume {base.name.split('/')[1]}",
            effect="Nothing was written.",
            hint="Look at the newest point and go on from it.",
        )
