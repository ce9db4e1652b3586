"""Which points a volume has: those its manifest lists, and those committed since. Edge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from blocksnapd.errors import RepositoryFormatError
from blocksnapd.store.manifest_format import PointEntry
from blocksnapd.store.names import is_point_name, parse_point_name, point_name, points_prefix
from blocksnapd.store.point_format import to_us

if TYPE_CHECKING:
    from blocksnapd.model import RestorePoint
    from blocksnapd.store.manifest_format import LoadedManifest
    from blocksnapd.store.objects import ObjectStore
    from blocksnapd.store.point_reader import PointReader


@dataclass(frozen=True, slots=True)
class Listing:
    """``points`` ascend by seq. ``missing`` names points of the manifest that are not there."""

    points: tuple[PointEntry, ...]
    missing: tuple[str, ...]


def list_points(store: ObjectStore, reader: PointReader, loaded: LoadedManifest) -> Listing:
    """Return the points of a volume; opens only those that are newer than the manifest.

    A point below the newest one of the manifest that it does not list has expired; its object
    may still be there until it is collected.

    Raises:
        RepositoryFormatError: two points have one place, or a new one is of another format.
        ChecksumError: a new point is damaged. KeyMissingError: metadata cannot be opened.
        StoreError: the place failed.
    """
    names = [n for n in store.list_names(points_prefix(loaded.volume_id)) if is_point_name(n)]
    known = loaded.manifest.points
    newest = known[-1].seq if known else 0
    fresh = [name for name in names if parse_point_name(name).seq > newest]
    _check_no_fork(fresh)
    there = set(names)
    missing = [n for e in known if (n := entry_name(loaded.volume_id, e)) not in there]
    entries = [entry_of(reader.load(name).point) for name in fresh]
    return Listing((*known, *entries), tuple(missing))


def entry_of(point: RestorePoint) -> PointEntry:
    """Return a point as manifests list it."""
    facts = point.facts
    return PointEntry(
        seq=point.seq, point_id=facts.point_id, time_us=to_us(facts.time), size=facts.size,
        kind=facts.kind, method=facts.method, consistency=facts.consistency,
        changed_bytes=facts.changed_bytes, shipped_bytes=point.shipped_bytes,
        stored_bytes=point.stored_bytes, tags=facts.tags,
    )  # fmt: skip


def entry_name(volume_id: str, entry: PointEntry) -> str:
    """Return the name of a listed point's object."""
    return point_name(volume_id, entry.seq, entry.point_id)


def _check_no_fork(names: list[str]) -> None:
    seqs = [parse_point_name(name).seq for name in names]
    for at in range(1, len(seqs)):
        if seqs[at] == seqs[at - 1]:
            raise RepositoryFormatError(
                f"two points have one place: {names[at - 1]} and {names[at]}",
                effect="Two writers were at work; nothing was changed now.",
                hint="Decide which daemon protects the volume; move one of the two objects away.",
            )
