"""Rotation: what is seen on the host and in the repository → the next command. Pure.

    seen                                                   command
    ────────────────────────────────────────────────────── ─────────────────────────────────
    a snapshot that an interrupted command left half made   Repair
    a snapshot that is neither base nor pending             Remove it: left over
    the pending snapshot is invalid                         Remove it: it can't be shipped
    a good pending snapshot, and a good base                Ship what the base's table lists
    a good pending snapshot, no good base, points exist     Ship a full compare
    a good pending snapshot, no point yet                   Ship the first full copy
    none pending, a cycle is due, the base is invalid       Remove it: it only takes room
    none pending, a cycle is due                            Take the next snapshot
    none pending, none due                                  Wait

The *base* is the snapshot taken for the repository's newest point: its exception table lists what
changed since. The *pending* snapshot was taken for a point that is not committed yet. Both are
known by the point id in their tag; the repository decides which point is newest, the journal
remembers which id is pending. A cycle is this table asked again and again until it says Wait, and
so is recovery after a crash: there is no second code path. At most two snapshots exist.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from blocksnapd.model import HostView, Method, PointHead, SeenSnapshot


OVERFLOW = "overflow"
SPOILED = "it became invalid before it was shipped"


@dataclass(frozen=True, slots=True)
class Repair:
    """Repair what an interrupted command left."""


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove the snapshot of ``point_id``."""

    point_id: str
    why: str


@dataclass(frozen=True, slots=True)
class Ship:
    """Ship the point ``point_id``; ``base_id`` only with the method ``tracked``.

    ``check_id``: a compare may hold what it finds against what this snapshot tracked.
    """

    point_id: str
    method: Method
    base_id: str = ""
    reason: str = ""
    check_id: str = ""


@dataclass(frozen=True, slots=True)
class Take:
    """Take a snapshot for a new point."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do now."""


Command: TypeAlias = Repair | Remove | Ship | Take | Wait


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of this turn. ``compare`` asks for a full compare, and why."""

    due: bool
    compare: str = ""


def decide(
    view: HostView, head: PointHead | None, pending_id: str, *, tracks: bool, asked: Asked
) -> Command:
    """Return the next command.

    Args:
        view: the host, as just seen.
        head: the newest point in the repository.
        pending_id: the point the journal says is under way; empty if none.
        tracks: whether the source can list changes at all.
        asked: what is asked of this turn.
    """
    head_id = head.point_id if head else ""
    base = _find(view, head_id)
    pending = _find(view, pending_id) if pending_id != head_id else None
    for seen in view.snapshots:
        if seen.state == "half":
            return Repair()
        if seen not in (base, pending):
            return Remove(seen.point_id, "left over")
    if pending is not None and pending.state == "invalid":
        return Remove(pending.point_id, SPOILED)
    if pending is not None:
        return _ship(pending, base, head, tracks=tracks, asked=asked)
    if asked.due and base is not None and base.state == "invalid":
        return Remove(base.point_id, OVERFLOW)
    return Take() if asked.due else Wait()


def _find(view: HostView, point_id: str) -> SeenSnapshot | None:
    return next((s for s in view.snapshots if point_id and s.point_id == point_id), None)


def _ship(
    pending: SeenSnapshot,
    base: SeenSnapshot | None,
    head: PointHead | None,
    *,
    tracks: bool,
    asked: Asked,
) -> Ship:
    if head is None:
        return Ship(pending.point_id, "first", reason="first")
    if asked.compare:
        is_good = tracks and base is not None and base.state == "good"
        check_id = base.point_id if base is not None and is_good else ""
        return Ship(pending.point_id, "compare", reason=asked.compare, check_id=check_id)
    if not tracks:
        return Ship(pending.point_id, "compare", reason="untracked")
    if base is None:
        return Ship(pending.point_id, "compare", reason="tracking-gone")
    if base.state != "good":
        return Ship(pending.point_id, "compare", reason=OVERFLOW)
    return Ship(pending.point_id, "tracked", base_id=base.point_id)
