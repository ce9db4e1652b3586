"""What a worker knows of the points of its repository: all of them, also around damage.

A volume's manifest lists what is there, so that a history of years is known at once; only what is
newer than it, and what is chosen, is opened. What turns out damaged is told and hides nothing that
is whole. Looked at again now and then: a worker may live for long.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from blocksnapd.control.messages import SCHEMA, Point, format_time
from blocksnapd.control.selectors import resolve_any
from blocksnapd.errors import (
    BlocksnapError,
    ChecksumError,
    FormatError,
    KeyMissingError,
    NotFoundError,
    StoreError,
)
from blocksnapd.keep_rules import SECOND_US
from blocksnapd.service.catalogue import Marks, point_message
from blocksnapd.service.pruning import Place
from blocksnapd.store.listing import entry_name, entry_of
from blocksnapd.store.names import is_point_name, parse_point_name

if TYPE_CHECKING:
    from blocksnapd.maintain.prune import Ledger, Pruner
    from blocksnapd.model import RestorePoint
    from blocksnapd.store.image import Image
    from blocksnapd.store.manifest_format import PointEntry
    from blocksnapd.store.names import PointName
    from blocksnapd.store.repository import Repository

log = logging.getLogger(__name__)

FRESH_S: Final = 5.0


@dataclass(slots=True)
class _Volume:
    """What is there of one volume; ``name`` is "" while none of its points can be read."""

    volume_id: str
    entries: list[PointEntry]
    marks: Marks | None
    name: str = ""
    block_size: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)

    def whole(self) -> list[PointEntry]:
        """Return what is not known to be damaged, oldest first."""
        return [e for e in self.entries if entry_name(self.volume_id, e) not in self.unreadable]

    def damaged(self) -> list[PointName]:
        """Return the points that are."""
        return [parse_point_name(n) for n in self.unreadable if is_point_name(n)]


class WorkerPoints:
    """The points of one repository. Event loop only, but for what says otherwise.

    Args:
        repository: opened with the caller's key.
        url: where it is, as it is told.
        pruner: knows which are listed, held and forgotten.
    """

    def __init__(self, repository: Repository, url: str, pruner: Pruner) -> None:
        self.repository, self.url, self._pruner = repository, url, pruner
        self._volumes: dict[str, _Volume] = {}
        self._names: dict[str, str] = {}  # of the objects, by the points' ids
        self._points: dict[str, RestorePoint] = {}  # those that were opened
        self._unreadable: dict[str, dict[str, str]] = {}  # what was found so far, by volume
        self._looked = 0.0
        self._looking = asyncio.Lock()

    async def load(self) -> None:
        """Look at what the repository holds now.

        Raises:
            StoreError, RepositoryFormatError, ChecksumError: it can't be read.
        """
        async with self._looking:
            volumes = await asyncio.to_thread(self._read)
            self._volumes = {volume.volume_id: volume for volume in volumes}
            self._names = {
                e.point_id: entry_name(v.volume_id, e) for v in volumes for e in v.entries
            }
            self._looked = time.monotonic()

    async def _look_again(self) -> None:
        if time.monotonic() - self._looked > FRESH_S:
            await self.load()

    def _read(self) -> list[_Volume]:
        return [self._read_volume(volume_id) for volume_id in self.repository.volumes()]

    def _read_volume(self, volume_id: str) -> _Volume:
        try:
            ledger = self._pruner.look(volume_id)
        except (FormatError, StoreError) as error:
            log.warning("What is held and forgotten is not known: %s", error.sentences())
            return self._read_without(volume_id)
        marks, known = Marks(ledger, self._pruner.now_us()), ledger.loaded.manifest.points
        volume = _Volume(volume_id, list(ledger.points), marks)
        volume.unreadable = self._unreadable.setdefault(volume_id, {})
        for name in ledger.missing:
            self._note(volume, name, f"There is no {name}, though it is listed.")
        for entry in ledger.points[len(known) :]:
            self._open(volume, entry_name(volume_id, entry))
        return self._named(volume)

    def _read_without(self, volume_id: str) -> _Volume:
        """Read every point: without a manifest only they themselves tell of them."""
        volume = _Volume(volume_id, [], None)
        volume.unreadable = self._unreadable.setdefault(volume_id, {})
        for outline in self.repository.history(volume_id):
            point = self._open(volume, outline.name)
            if point is not None:
                volume.entries.append(entry_of(point))
        return self._named(volume)

    def _named(self, volume: _Volume) -> _Volume:
        """Learn what the newest point that can be read calls the volume."""
        for entry in reversed(volume.whole()):
            point = self._open(volume, entry_name(volume.volume_id, entry))
            if point is not None:
                volume.name, volume.block_size = point.facts.volume_name, point.facts.block_size
                break
        return volume

    def _open(self, volume: _Volume, name: str) -> RestorePoint | None:
        """Return a point; of one that is damaged take note instead."""
        known = self._points.get(parse_point_name(name).point_id) if is_point_name(name) else None
        if known is not None and known.name == name:
            return known
        try:
            point = self.repository.load_point(name)
        except KeyMissingError:
            raise
        except (FormatError, NotFoundError) as error:
            self._note(volume, name, error.sentences())
            return None
        self._points[point.facts.point_id] = point
        volume.unreadable.pop(name, None)
        return point

    def _note(self, volume: _Volume, name: str, problem: str) -> None:
        if name not in volume.unreadable:
            log.warning("%s", problem)
        volume.unreadable[name] = problem

    async def points(self, volume: str | None, *, with_forgotten: bool = False) -> list[Point]:
        """Return the points of one volume or of all, oldest first per volume.

        Raises:
            StoreError and others: as ``load``.
        """
        await self._look_again()
        messages = [m for held in self._volumes.values() for m in self._messages(held)]
        messages = [m for m in messages if with_forgotten or "forgotten" not in m]
        return [m for m in messages if volume in (None, m["volume"])]

    def _messages(self, volume: _Volume) -> list[Point]:
        whole = volume.whole()
        wrong = {a.seq for a, b in itertools.pairwise(whole) if b.mismatched_blocks}
        found = [self._message(volume, entry, is_suspect=entry.seq in wrong) for entry in whole]
        return volume.marks.marked(found) if volume.marks else found

    def _message(self, volume: _Volume, entry: PointEntry, *, is_suspect: bool) -> Point:
        message: Point = {
            "schema": SCHEMA, "id": entry.point_id, "volume": volume.name, "target": self.url,
            "seq": entry.seq, "time": format_time(entry.time_us / SECOND_US), "size": entry.size,
            "block_size": volume.block_size, "kind": entry.kind, "method": entry.method,
            "consistency": entry.consistency, "changed_bytes": entry.changed_bytes,
            "shipped_bytes": entry.shipped_bytes, "stored_bytes": entry.stored_bytes,
            "tags": list(entry.tags),
        }  # fmt: skip
        if is_suspect:
            message["suspect"] = True
        return message

    async def point(self, selector: str) -> Point:
        """Return the one point that ``selector`` names; its note tells newer ones left out.

        Raises:
            UsageError, NotFoundError: it names none, or several. ChecksumError: a damaged one.
            StoreError and others: as ``load``.
        """
        while True:
            every = await self.points(None, with_forgotten=True)
            kept = [p for p in every if "forgotten" not in p]
            try:
                found = resolve_any(selector, kept, [p for p in every if "forgotten" in p])
            except NotFoundError as error:
                raise self._damaged_or(error, selector) from error
            volume = self._volume_of(found["id"])
            point = await asyncio.to_thread(self._open, volume, self._names[found["id"]])
            if point is not None:  # or it is known to be damaged now, and another one is meant
                break
        found = {**found, **point_message(point, self.url)}
        left_out = self._damaged_after(volume, point.seq)
        if not left_out or found["id"].startswith(selector):
            return found
        said = f"Left out, because they are damaged: {', '.join(left_out)}."
        return {**found, "note": f"{found.get('note', '')} {said}".strip()}

    def _volume_of(self, point_id: str) -> _Volume:
        return self._volumes[parse_point_name(self._names[point_id]).volume_id]

    def _damaged_or(self, error: NotFoundError, selector: str) -> BlocksnapError:
        """Return ``error``, or another one if a damaged point may be what was looked for."""
        is_id = "@" not in selector and not selector.startswith("latest:")
        ids = [name.point_id for held in self._volumes.values() for name in held.damaged()]
        found = [i for i in ids if not is_id or i.startswith(selector)]
        if not found:
            return error
        return ChecksumError(
            f"{error.message}; but damaged points cannot be read: {', '.join(found)}",
            effect="They can't be restored; every other point can.",
            hint="List the others with: blocksnapctl --repo URL points. What is damaged in these "
            "tells: blocksnapctl --repo URL verify",
        )

    def _damaged_after(self, volume: _Volume, seq: int) -> list[str]:
        """Return the ids of damaged points between the one of ``seq`` and the next whole one."""
        end = min((e.seq for e in volume.whole() if e.seq > seq), default=None)
        return [
            name.point_id
            for name in volume.damaged()
            if seq < name.seq and (end is None or name.seq < end)
        ]

    async def place_of(self, volume: str) -> Place:
        """Return where the points of a volume, by its name or its id in the repository, are."""
        held = [v for v in self._volumes.values() if v.name]
        found = [v for v in held if volume in (v.name, v.volume_id)]
        if len(found) != 1:
            ids = ", ".join(f"{v.name} ({v.volume_id})" for v in held)
            raise NotFoundError(
                f"there is no volume {volume!r} in {self.url}" if not found
                else f"several volumes were called {volume!r}",
                effect="Nothing was done.", hint=f"It has {ids or 'none'}",
            )  # fmt: skip
        (one,) = found

        def note(ledger: Ledger) -> None:
            one.marks = Marks(ledger, self._pruner.now_us())

        return Place(volume, one.volume_id, self.url, self._pruner, None, note)

    def volumes_to_verify(self, volume: str | None) -> list[str]:
        """Return the ids of the volumes called ``volume``, or of all; none is a NotFoundError."""
        # Of whichever volume: nothing in a point that cannot be read can be believed.
        found = [
            held.volume_id
            for held in self._volumes.values()
            if not volume or held.name in ("", volume)
        ]
        if not any(self._volumes[i].entries or self._volumes[i].unreadable for i in found):
            raise NotFoundError(
                f"there is no point of {volume or 'any volume'} in {self.url}",
                effect="Nothing was read.",
                hint="List what there is with: blocksnapctl --repo URL points",
            )
        return sorted(found)

    def beside(self, point: RestorePoint) -> tuple[list[Point], list[Point]]:
        """Return the volume's listed points before ``point``, newest first, and those after it.

        May be called in any thread.
        """
        messages = self._messages(self._volumes[point.facts.volume_id])
        listed = [m for m in messages if "forgotten" not in m]
        before = [m for m in listed if m["seq"] < point.seq]
        return before[::-1], [m for m in listed if m["seq"] > point.seq]

    def is_suspect(self, point: RestorePoint) -> bool:
        """Say whether the next point found that the volume had held something else."""
        messages = self._messages(self._volumes[point.facts.volume_id])
        return any(m["id"] == point.facts.point_id and m.get("suspect") for m in messages)

    def named(self, point_id: str) -> RestorePoint:
        """Return the point with this id, which was found by ``point``."""
        return self._points[point_id]

    def open_image(self, point_id: str) -> Image:
        """Return the image of the point with this id; may be called in any thread."""
        return self.repository.open_image(self._points.get(point_id) or self._names[point_id])
