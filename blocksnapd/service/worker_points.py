"""What a worker knows of the points of its repository: all of them, also around damage.

Read once, when the worker starts; what is damaged is told and hides nothing that is whole.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from blocksnapd.control.selectors import resolve_any
from blocksnapd.errors import (
    BlocksnapError,
    ChecksumError,
    FormatError,
    KeyMissingError,
    NotFoundError,
    StoreError,
)
from blocksnapd.service.catalogue import Marks, point_message, with_suspects
from blocksnapd.service.pruning import Place
from blocksnapd.store.names import is_point_name, parse_point_name

if TYPE_CHECKING:
    from blocksnapd.control.messages import Point
    from blocksnapd.maintain.prune import Ledger, Pruner
    from blocksnapd.model import RestorePoint
    from blocksnapd.store.image import Image
    from blocksnapd.store.names import PointName
    from blocksnapd.store.repository import Repository

log = logging.getLogger(__name__)


class WorkerPoints:
    """The points of one repository. Event loop only.

    Args:
        repository: opened with the caller's key.
        url: where it is, as it is told.
        pruner: knows which are held and forgotten.
    """

    def __init__(self, repository: Repository, url: str, pruner: Pruner) -> None:
        self.repository, self.url, self._pruner = repository, url, pruner
        self._marks: dict[str, Marks] = {}
        self._points: dict[str, RestorePoint] = {}
        self._unreadable: dict[str, str] = {}

    async def load(self) -> None:
        """Read what the repository holds.

        Raises:
            StoreError, RepositoryFormatError, ChecksumError: it can't be read.
        """
        self._points = await asyncio.to_thread(self._read_points)
        self._marks = await asyncio.to_thread(self._read_marks)

    def _read_points(self) -> dict[str, RestorePoint]:
        found = {}
        for volume_id in self.repository.volumes():
            for check in self.repository.history(volume_id):
                # A damaged point must not hide the whole ones.
                try:
                    point = self.repository.load_point(check.name)
                except KeyMissingError:
                    raise
                except (FormatError, StoreError) as error:
                    self._unreadable[check.name] = error.sentences()
                else:
                    found[point.facts.point_id] = point
        for problem in self._unreadable.values():
            log.warning("%s", problem)
        return found

    def _read_marks(self) -> dict[str, Marks]:
        found = {}
        for volume_id in self.repository.volumes():
            try:
                ledger = self._pruner.look(volume_id)
            except (FormatError, StoreError) as error:
                log.warning("What is held and forgotten is not known: %s", error.sentences())
            else:
                found[volume_id] = Marks(ledger, self._pruner.now_us())
        return found

    async def points(self, volume: str | None, *, with_forgotten: bool = False) -> list[Point]:
        """Return the points of one volume or of all, oldest first per volume."""
        by_volume: dict[str, list[Point]] = {}
        for point in self._points.values():
            message = point_message(point, self.url)
            by_volume.setdefault(point.facts.volume_id, []).append(message)
        messages: list[Point] = []
        for volume_id, found in by_volume.items():
            found, marks = with_suspects(found), self._marks.get(volume_id)
            messages += marks.marked(found) if marks else found
        messages = [m for m in messages if with_forgotten or "forgotten" not in m]
        return [m for m in messages if volume in (None, m["volume"])]

    async def point(self, selector: str) -> Point:
        """Return the one point that ``selector`` names; its note tells newer ones left out."""
        try:
            every = await self.points(None, with_forgotten=True)
            kept = [p for p in every if "forgotten" not in p]
            found = resolve_any(selector, kept, [p for p in every if "forgotten" in p])
        except NotFoundError as error:
            raise self._damaged_or(error, selector) from error
        left_out = self._damaged_after(self._points[found["id"]])
        if not left_out or found["id"].startswith(selector):
            return found
        said = f"Left out, because they are damaged: {', '.join(left_out)}."
        return {**found, "note": f"{found.get('note', '')} {said}".strip()}

    def _damaged_or(self, error: NotFoundError, selector: str) -> BlocksnapError:
        """Return ``error``, or another one if a damaged point may be what was looked for."""
        is_id = "@" not in selector and not selector.startswith("latest:")
        ids = [name.point_id for name in self._damaged_points()]
        found = [i for i in ids if not is_id or i.startswith(selector)]
        if not found:
            return error
        return ChecksumError(
            f"{error.message}; but damaged points cannot be read: {', '.join(found)}",
            effect="They can't be restored; every other point can.",
            hint="List the others with: blocksnapctl --repo URL points. What is damaged in these "
            "tells: blocksnapctl --repo URL verify",
        )

    def _damaged_points(self) -> list[PointName]:
        return [parse_point_name(n) for n in self._unreadable if is_point_name(n)]

    def _damaged_after(self, point: RestorePoint) -> list[str]:
        """Return the ids of damaged points between ``point`` and the next whole one."""
        volume_id = point.facts.volume_id
        whole = [p.seq for p in self._points.values() if p.facts.volume_id == volume_id]
        end = min((seq for seq in whole if seq > point.seq), default=None)
        return [
            n.point_id
            for n in self._damaged_points()
            if n.volume_id == volume_id and point.seq < n.seq and (end is None or n.seq < end)
        ]

    async def place_of(self, volume: str) -> Place:
        """Return where the points of a volume, by its name or its id in the repository, are."""
        ids = {p.facts.volume_id: p.facts.volume_name for p in self._points.values()}
        found = [i for i, name in ids.items() if volume in (name, i)]
        if len(found) != 1:
            raise NotFoundError(
                f"there is no volume {volume!r} in {self.url}" if not found
                else f"several volumes were called {volume!r}",
                effect="Nothing was done.",
                hint="It has " + (", ".join(f"{name} ({i})" for i, name in ids.items()) or "none"),
            )  # fmt: skip

        def note(ledger: Ledger) -> None:
            self._marks[found[0]] = Marks(ledger, self._pruner.now_us())

        return Place(volume, found[0], self.url, self._pruner, None, note)

    def volumes_to_verify(self, volume: str | None) -> list[str]:
        """Return the ids of the volumes called ``volume``, or of all; none is a NotFoundError."""
        readable = {p.facts.volume_id: p.facts.volume_name for p in self._points.values()}
        found = {i for i, name in readable.items() if volume in (None, "", name)}
        # Of whichever volume: nothing in a point that cannot be read can be believed.
        strange = {name.split("/")[1] for name in self._unreadable}
        found |= {i for i in strange if not volume or i not in readable}
        if not found:
            raise NotFoundError(
                f"there is no point of {volume or 'any volume'} in {self.url}",
                effect="Nothing was read.",
                hint="List what there is with: blocksnapctl --repo URL points",
            )
        return sorted(found)

    def beside(self, point: RestorePoint) -> list[RestorePoint]:
        """Return the points of the volume of ``point`` that are listed, itself too; oldest first.

        May be called in any thread.
        """
        volume_id = point.facts.volume_id
        found = [p for p in self._points.values() if p.facts.volume_id == volume_id]
        messages, marks = [point_message(p, "") for p in found], self._marks.get(volume_id)
        listed = marks.marked(messages) if marks else messages
        ids = {m["id"] for m in listed if "forgotten" not in m}
        return sorted((p for p in found if p.facts.point_id in ids), key=lambda p: p.seq)

    def is_suspect(self, point: RestorePoint) -> bool:
        """Say whether the next point found that the volume had held something else."""
        volume_id = point.facts.volume_id
        after = [
            p for p in self._points.values() if p.facts.volume_id == volume_id and p.seq > point.seq
        ]
        following = min(after, key=lambda p: p.seq, default=None)
        return following is not None and following.facts.proof.mismatched_blocks > 0

    def named(self, point_id: str) -> RestorePoint:
        """Return the point with this id, which was found by ``point``."""
        return self._points[point_id]

    def open_image(self, point_id: str) -> Image:
        """Return the image of the point with this id; may be called in any thread."""
        return self.repository.open_image(self._points[point_id])
