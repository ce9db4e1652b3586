"""Which points a volume has: those its manifest lists, and those committed since. Edge."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blocksnapd.errors import FormatError, RepositoryFormatError, StoreError
from blocksnapd.store.manifest_format import PointEntry
from blocksnapd.store.names import is_point_name, parse_point_name, point_name, points_prefix
from blocksnapd.store.point_format import Header, to_us

if TYPE_CHECKING:
    from blocksnapd.model import RestorePoint
    from blocksnapd.store.manifest_format import LoadedManifest
    from blocksnapd.store.objects import ObjectStore
    from blocksnapd.store.point_reader import LoadedPoint, PointReader

DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class Listing:
    """``points`` ascend by seq. ``missing`` names points that should be there and are not."""

    points: tuple[PointEntry, ...]
    missing: tuple[str, ...]


def list_points(store: ObjectStore, reader: PointReader, loaded: LoadedManifest) -> Listing:
    """Return the points of a volume; opens only those that are newer than the manifest.

    A point below the newest one of the manifest that it does not list has expired; its object
    may still be there until it is collected. A new one that is damaged is listed as that, at the
    time of the one before: nothing may take it for expired, and nothing waits for it.

    Raises:
        RepositoryFormatError: two points have one place.
        KeyMissingError: metadata cannot be opened.
        StoreError: the place failed, or its listing left out a point that is there: whoever went
            on from that would pass over the point for ever.
    """
    prefix = points_prefix(loaded.volume_id)
    names = [n for n in store.list_names(prefix) if is_point_name(n)]
    # Who lists a point for others to rely on must not see it vanish with the power.
    store.settle(prefix)
    known = loaded.manifest.points
    newest = known[-1].seq if known else 0
    fresh = [name for name in names if parse_point_name(name).seq > newest]
    _check_no_fork(fresh)
    there = set(names)
    missing = [n for e in known if (n := entry_name(loaded.volume_id, e)) not in there]
    entries, headers = list(known), dict[int, Header | None]()
    for name in fresh:
        found = _load(reader, name)
        headers[parse_point_name(name).seq] = found.object.header if found else None
        entries.append(entry_of(found.point) if found else _damaged_entry(name, entries))
    missing += _left_out(store, newest, headers)
    return Listing(tuple(entries), tuple(missing))


def _load(reader: PointReader, name: str) -> LoadedPoint | None:
    # Maintenance of all others must not wait for one that is damaged, which verify reports.
    for load in (reader.load, reader.salvage):
        with contextlib.suppress(FormatError):
            return load(name)
    return None


def _damaged_entry(name: str, before: list[PointEntry]) -> PointEntry:
    said, last = parse_point_name(name), before[-1] if before else None
    return PointEntry(
        seq=said.seq, point_id=said.point_id, time_us=last.time_us if last else 0,
        size=last.size if last else 0, kind="delta", method=DAMAGED, consistency=DAMAGED,
        changed_bytes=0, shipped_bytes=0, stored_bytes=0,
    )  # fmt: skip


def entry_of(point: RestorePoint) -> PointEntry:
    """Return a point as manifests list it."""
    facts = point.facts
    return PointEntry(
        seq=point.seq, point_id=facts.point_id, time_us=to_us(facts.time), size=facts.size,
        kind=facts.kind, method=facts.method, consistency=facts.consistency,
        changed_bytes=facts.changed_bytes, shipped_bytes=point.shipped_bytes,
        stored_bytes=point.stored_bytes, tags=facts.tags,
        mismatched_blocks=facts.proof.mismatched_blocks,
    )  # fmt: skip


def entry_name(volume_id: str, entry: PointEntry) -> str:
    """Return the name of a listed point's object."""
    return point_name(volume_id, entry.seq, entry.point_id)


def _left_out(store: ObjectStore, newest: int, headers: dict[int, Header | None]) -> list[str]:
    """Return the points that new ones follow and that are gone; ``newest`` is the last known."""
    gone = []
    for seq, header in headers.items():
        if header is not None and seq != newest + 1 and header.prev_name:
            if store.exists(header.prev_name):
                raise StoreError(
                    f"the listing of points left out {header.prev_name}, which is there",
                    effect="Nothing was decided; nothing was changed.",
                    hint="Try again; if it stays so, look after the disk or the file system.",
                )
            gone.append(header.prev_name)
        newest = seq
    return gone


def _check_no_fork(names: list[str]) -> None:
    seqs = [parse_point_name(name).seq for name in names]
    for at in range(1, len(seqs)):
        if seqs[at] == seqs[at - 1]:
            raise RepositoryFormatError(
                f"two points have one place: {names[at - 1]} and {names[at]}",
                effect="Two writers were at work; nothing was changed now.",
                hint="Decide which daemon protects the volume; move one of the two objects away.",
            )
