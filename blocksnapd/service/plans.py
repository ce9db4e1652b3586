"""Plans between being made and being applied: files that outlive the process. Blocking.

A private worker ends with the command that started it, and a daemon may be restarted: who has
looked at a plan finds it again all the same, until it expires.
"""

from __future__ import annotations

import logging
import os
import re
from typing import TYPE_CHECKING

import msgspec

from blocksnapd.control.messages import SCHEMA, format_time
from blocksnapd.errors import NotFoundError
from blocksnapd.keep_rules import SECOND_US
from blocksnapd.maintain.prune_plan import Plan  # noqa: TC001 - msgspec reads it
from blocksnapd.runtime import durable

if TYPE_CHECKING:
    from blocksnapd.control.messages import Plan as Message
    from blocksnapd.control.messages import PlannedPoint as PointMessage
    from blocksnapd.maintain.prune_plan import PlannedPoint

log = logging.getLogger(__name__)

PLAN_SIZE_MAX = 256 << 20
PLAN_ID = re.compile(r"pl-[0-9a-f]{8}")


class KeptPlan(msgspec.Struct, frozen=True):
    """A plan, the volume it is for by its name, and whether it was done."""

    plan: Plan
    volume: str
    target: str
    is_applied: bool = False

    def message(self) -> Message:
        """Return the plan as the control socket tells it."""
        plan, forgotten = self.plan, len(self.plan.forgotten)
        return {
            "schema": SCHEMA,
            "id": plan.plan_id,
            "volume": self.volume,
            "target": self.target,
            "created": _time(plan.created_us),
            "expires": _time(plan.expires_us),
            "undelete_until": _time(plan.created_us + plan.undelete_us),
            "points": [_point(p) for p in plan.points],
            "keep": len(plan.points) - forgotten,
            "forget": forgotten,
            "frees_bytes": plan.frees_bytes,
            "refused": [{"name": g.name, "text": g.text} for g in plan.guards],
            "applied": self.is_applied,
        }


class PlanBook:
    """Plans in ``directory``, one file each; a place that cannot be written costs only that."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._known: dict[str, KeptPlan] = {}

    def keep(self, kept: KeptPlan, *, now_us: int) -> None:
        """Remember a plan, and drop those that expired."""
        self._known = {n: k for n, k in self._known.items() if k.plan.expires_us >= now_us}
        self._known[kept.plan.plan_id] = kept
        try:
            durable.make_dirs(self._directory)
            self._drop_expired(now_us)
            durable.replace(self._path(kept.plan.plan_id), msgspec.json.encode(kept))
        except OSError as error:
            log.warning("plan %s is known only here and now: %s", kept.plan.plan_id, error)

    def get(self, plan_id: str, *, now_us: int) -> KeptPlan:
        """Return a plan that was kept.

        Raises:
            NotFoundError: there is none of that id, or it expired.
        """
        found = self._known.get(plan_id)
        if found is None and PLAN_ID.fullmatch(plan_id):
            found = _read(self._path(plan_id))
        if found is None or found.plan.plan_id != plan_id or found.plan.expires_us < now_us:
            raise NotFoundError(
                f"there is no plan {plan_id!r}, or it expired",
                effect="Nothing was done.",
                hint="Make a new one with: blocksnapctl prune VOLUME --dry-run",
            )
        return found

    def _path(self, plan_id: str) -> str:
        return os.path.join(self._directory, f"{plan_id}.json")

    def _drop_expired(self, now_us: int) -> None:
        for name in os.listdir(self._directory):
            plan_id = name.removesuffix(".json")
            if not PLAN_ID.fullmatch(plan_id):
                continue
            found = _read(self._path(plan_id))
            if found is None or found.plan.expires_us < now_us:
                durable.remove(self._path(plan_id))


def _read(path: str) -> KeptPlan | None:
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(PLAN_SIZE_MAX), type=KeptPlan)
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError):
        return None  # gone, torn or another's: as good as none


def _point(point: PlannedPoint) -> PointMessage:
    return {
        "id": point.point_id,
        "seq": point.seq,
        "time": _time(point.time_us),
        "keep": bool(point.reasons),
        "why": list(point.reasons),
        "frees_bytes": point.frees_bytes,
    }


def _time(time_us: int) -> str:
    return format_time(time_us / SECOND_US)
