"""What is known of a volume's points without reading the repository's sealed parts. Edge.

The repository tells a source only the clear outline of a point. What this host itself committed it
remembers in ``points.jsonl``, one line of JSON per point; a lost or torn line costs the details of
that point in listings and nothing else.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING, cast

import aiofiles

from blocksnapd.control.messages import (
    SCHEMA,
    Forgotten,
    Hold,
    Point,
    format_time,
    parse_time,
)
from blocksnapd.errors import BlocksnapError
from blocksnapd.keep_rules import SECOND_US
from blocksnapd.maintain.prune import is_held
from blocksnapd.runtime import durable
from blocksnapd.store.names import parse_point_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from blocksnapd.maintain.prune import Ledger
    from blocksnapd.model import RestorePoint
    from blocksnapd.store.outline import PointOutline


class Marks:
    """Which points of a volume are held, forgotten or expired, by one state of its manifest."""

    def __init__(self, ledger: Ledger, now_us: int) -> None:
        ids = {e.seq: e.point_id for e in ledger.points}
        self._listed = frozenset(ids.values())
        self._newest = max(ids, default=0)
        self._held: dict[str, Hold] = {
            ids[h.seq]: {
                "since": _time(h.since_us),
                "until": _time(h.until_us) if h.until_us else None,
                "reason": h.reason,
            }
            for h in ledger.manifest.holds
            if h.seq in ids and is_held(h, now_us)
        }
        self._forgotten: dict[str, Forgotten] = {
            ids[f.seq]: {
                "since": _time(f.since_us), "until": _time(f.until_us), "reason": f.reason,
            }
            for f in ledger.manifest.forgotten
            if f.seq in ids
        }  # fmt: skip

    def marked(self, points: Iterable[Point]) -> list[Point]:
        """Return the points with their marks, without those that have expired."""
        found = []
        for point in points:
            point_id = point["id"]
            if point_id not in self._listed and point["seq"] <= self._newest:
                continue
            marked: Point = {**point}
            if point_id in self._held:
                marked["held"] = self._held[point_id]
            if point_id in self._forgotten:
                marked["forgotten"] = self._forgotten[point_id]
            found.append(marked)
        return found


class Catalogue:
    """The points of one volume, oldest first."""

    def __init__(self, directory: str, volume: str, target: str) -> None:
        self._path = os.path.join(directory, "points.jsonl")
        self._volume = volume
        self._target = target
        self._points: dict[str, Point] = {}
        self._marks: Marks | None = None

    async def load(
        self, names: Sequence[str], outline: Callable[[str], PointOutline | None], *,
        is_cut: bool = False,
    ) -> None:  # fmt: skip
        """Learn the points that the repository has, with the details this host remembers.

        Args:
            names: of the points that are there.
            outline: reads what one says of itself; may block. Asked of those alone that this host
                does not remember whole: a history of years is not read again at each start.
            is_cut: older ones are there that this host is not told of; it remembers them.
        """
        known = {p["id"]: p for p in await self._read()}
        there = sorted(map(parse_point_name, names), key=lambda name: name.seq)
        whole = [name.point_id for name in there if _is_whole(known.get(name.point_id), name.seq)]
        unknown = [n for n in names if parse_point_name(n).point_id not in set(whole)]
        read = await asyncio.to_thread(lambda: [outline(name) for name in unknown])
        found = {i: known[i] for i in whole}
        if is_cut and there:
            found |= {p["id"]: p for p in _history(known.values()) if p["seq"] < there[0].seq}
        for said in read:
            if said is not None:
                # What both tell, the repository knows better than a file anybody may have edited.
                more = {**known.get(said.point_id, {}), **self._outline(said)}
                found[said.point_id] = cast("Point", more)
        self._points = {
            point["id"]: cast("Point", {**point, "volume": self._volume, "target": self._target})
            for point in sorted(found.values(), key=lambda point: point["seq"])
        }

    def add(self, point: RestorePoint) -> None:
        """Remember a point this host committed. Blocking."""
        message = point_message(point, self._target)
        self._points[message["id"]] = message
        durable.append(self._path, json.dumps(message).encode() + b"\n")

    def mark(self, marks: Marks) -> None:
        """Learn which points are held, forgotten or expired."""
        self._marks = marks

    def points(self, *, with_forgotten: bool = False) -> list[Point]:
        """Return every point that is not forgotten, or those too; oldest first."""
        found = with_suspects(list(self._points.values()))
        if self._marks is not None:
            found = self._marks.marked(found)
        return [p for p in found if with_forgotten or "forgotten" not in p]

    def newest(self) -> Point | None:
        """Return the newest point."""
        return next(reversed(self._points.values()), None)

    def surprise(self, point: RestorePoint) -> str:
        """Return what it says of the place that this host's next point is ``point``.

        Empty where it follows the newest one that is known here, or none is.
        """
        known = self.newest()
        if known is None or point.seq == known["seq"] + 1:
            return ""
        told = f"{self._target} gave place {point.seq} of {self._volume} to a new point"
        if point.seq <= known["seq"]:
            return (
                f"{told}, but {known['id']} had place {known['seq']}: it shows an older state, or "
                "lost points. Look at its history with: blocksnapctl verify"
            )
        return (
            f"{told}, but the newest one known here, {known['id']}, has place {known['seq']}: one "
            "in between cannot be read, or somebody else has the keys of this host"
        )

    async def _read(self) -> list[Point]:
        points: list[Point] = []
        try:
            async with aiofiles.open(self._path, encoding="utf-8", errors="replace") as file:
                async for line in file:
                    points += _parse(line)
        except FileNotFoundError:
            pass
        return points

    def _outline(self, head: PointOutline) -> Point:
        return {
            "schema": SCHEMA,
            "id": head.point_id,
            "volume": self._volume,
            "target": self._target,
            "seq": head.seq,
            "time": format_time(head.time.timestamp()),
            "size": head.size,
            "block_size": head.block_size,
        }


def point_message(point: RestorePoint, target: str) -> Point:
    """Return a point as the control socket tells it."""
    f = point.facts
    return {
        "schema": SCHEMA,
        "id": f.point_id,
        "volume": f.volume_name,
        "target": target,
        "seq": point.seq,
        "time": format_time(f.time.timestamp()),
        "size": f.size,
        "block_size": f.block_size,
        "chunk_size": f.chunk_size,
        "kind": f.kind,
        "method": f.method,
        "reason": f.reason,
        "driver": f.driver,
        "consistency": f.consistency,
        "changed_bytes": f.changed_bytes,
        "shipped_bytes": point.shipped_bytes,
        "stored_bytes": point.stored_bytes,
        "tags": list(f.tags),
        "proof": {
            "checked_blocks": f.proof.checked_blocks,
            "mismatched_blocks": f.proof.mismatched_blocks,
            "ranges": [list(r) for r in f.proof.ranges],
        },
    }


def with_suspects(points: list[Point]) -> list[Point]:
    """Return the points of one volume, those marked that the next one's proof found wrong."""
    marked = list(points)
    for index, following in enumerate(points[1:]):
        if following.get("proof", {}).get("mismatched_blocks"):
            marked[index] = {**marked[index], "suspect": True}
    return marked


def _is_whole(point: Point | None, seq: object) -> bool:
    """Say whether what is remembered of the point ``seq`` is all that its header would tell."""
    if point is None or not isinstance(seq, int) or point.get("seq") != seq:
        return False
    try:
        parse_time(point["time"])
    except (KeyError, TypeError, ValueError, BlocksnapError):
        return False
    sizes = [point.get(key) for key in ("size", "block_size")]
    return all(isinstance(size, int) and size >= 0 for size in sizes)


def _history(remembered: Iterable[Point]) -> list[Point]:
    """Return the points of the repository that has the last ones, of what was remembered in turn.

    Where a place is given again, the points from there on are of another repository, another volume
    of this name, or a state that the target has lost.
    """
    history: list[Point] = []
    for point in remembered:
        if _is_whole(point, point.get("seq")):
            while history and history[-1]["seq"] >= point["seq"]:
                history.pop()
            history.append(point)
    return history


def _time(time_us: int) -> str:
    return format_time(time_us / SECOND_US)


def _parse(line: str) -> list[Point]:
    # A line that a crash tore is left out.
    try:
        found = json.loads(line)
    except ValueError:
        return []
    is_point = isinstance(found, dict) and isinstance(found.get("id"), str)
    return [cast("Point", found)] if is_point else []
