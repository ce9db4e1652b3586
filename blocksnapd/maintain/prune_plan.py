"""What a prune would do, point by point; and whether it still may when somebody says yes. Pure.

A plan is made, shown, applied: the same values each time. It does exactly what was shown or
nothing; new points that came meanwhile are not its business.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec

from blocksnapd.errors import RefusedError
from blocksnapd.keep_rules import SECOND_US
from blocksnapd.store.seal import digest
from blocksnapd.units import format_count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from blocksnapd.maintain.prune_guards import Guard
    from blocksnapd.maintain.retention import Candidate, Policy, Verdict

VALID_US = 15 * 60 * SECOND_US
CHANGES_TOLD_MAX = 5
_NOTHING = "Nothing was forgotten."
_AGAIN = "Look at a new plan with: blocksnapctl prune VOLUME --dry-run"


class PlannedPoint(msgspec.Struct, frozen=True):
    """A point and what becomes of it; without ``reasons`` it is forgotten.

    ``frees_bytes`` falls away when of all points this one alone goes; None: not measured.
    """

    seq: int
    point_id: str
    time_us: int
    reasons: tuple[str, ...] = ()
    frees_bytes: int | None = None


class PlanGuard(msgspec.Struct, frozen=True):
    """A guard that spoke: a word for machines, a sentence for people."""

    name: str
    text: str


class Plan(msgspec.Struct, frozen=True):
    """One plan for one volume, of the state after manifest ``generation``.

    ``frees_bytes`` falls away when all of it is done and can no longer be undone; that is more
    than the points' own shares together, where several share content that nobody else has.
    """

    plan_id: str
    volume_id: str
    generation: int
    created_us: int
    expires_us: int
    undelete_us: int
    points: tuple[PlannedPoint, ...]
    guards: tuple[PlanGuard, ...] = ()
    frees_bytes: int | None = None

    @property
    def forgotten(self) -> tuple[PlannedPoint, ...]:
        """The points that it forgets, oldest first."""
        return tuple(p for p in self.points if not p.reasons)

    @property
    def kept(self) -> tuple[PlannedPoint, ...]:
        """The points that it keeps, oldest first."""
        return tuple(p for p in self.points if p.reasons)


def make_plan(
    volume_id: str,
    generation: int,
    verdicts: Sequence[Verdict],
    guards: Sequence[Guard],
    policy: Policy,
    now_us: int,
) -> Plan:
    """Return the plan that ``verdicts`` make; what it frees is not measured yet."""
    points = tuple(
        PlannedPoint(v.point.seq, v.point.point_id, v.point.time_us, v.reasons) for v in verdicts
    )
    said = [volume_id, generation, now_us, [(p.seq, p.point_id, not p.reasons) for p in points]]
    return Plan(
        plan_id=f"pl-{digest(json.dumps(said).encode())[:8]}", volume_id=volume_id,
        generation=generation, created_us=now_us, expires_us=now_us + VALID_US,
        undelete_us=policy.undelete_us, points=points,
        guards=tuple(PlanGuard(g.name, g.text) for g in guards),
    )  # fmt: skip


def with_shares(plan: Plan, shares: Mapping[int, int], total: int) -> Plan:
    """Return the plan with what it frees: bytes of each forgotten point by ``seq``, and in all."""
    points = tuple(
        p if p.reasons else msgspec.structs.replace(p, frees_bytes=shares.get(p.seq, 0))
        for p in plan.points
    )
    return msgspec.structs.replace(plan, points=points, frees_bytes=total)


def check_plan(plan: Plan, candidates: Sequence[Candidate], now_us: int) -> None:
    """Make sure that ``plan`` may still be done, exactly as it is.

    Args:
        plan: what somebody has seen and wants.
        candidates: the points that are there now and not forgotten, by ``seq``.
        now_us: the time.

    Raises:
        RefusedError: it is too old, or something changed since; the message says what.
    """
    if not plan.created_us <= now_us <= plan.expires_us:
        raise RefusedError(f"plan {plan.plan_id} expired", effect=_NOTHING, hint=_AGAIN)
    found = _changes(plan, candidates)
    if found:
        more = len(found) - CHANGES_TOLD_MAX
        told = found[:CHANGES_TOLD_MAX] + [f"and {more} more"] * (more > 0)
        raise RefusedError(
            f"plan {plan.plan_id} no longer fits: {'; '.join(told)}", effect=_NOTHING, hint=_AGAIN
        )


def _changes(plan: Plan, candidates: Sequence[Candidate]) -> list[str]:
    """Return what changed since the plan was made, beyond new points."""
    there = {(c.seq, c.point_id): c for c in candidates}
    verified = [c for c in candidates if c.verified][-1:]
    found = []
    for point in plan.points:
        now = there.get((point.seq, point.point_id))
        if now is None:
            found.append(f"{point.point_id} is forgotten or gone")
        elif point.reasons:
            continue  # it is kept and there
        elif now.held:
            found.append(f"{point.point_id} is {now.held}")
        elif now is candidates[-1]:
            found.append(f"{point.point_id} is the newest point")
        elif now in verified:
            found.append(f"{point.point_id} is the last verified point")
    return found


def summary(plan: Plan) -> str:
    """Return what the plan does, as one line."""
    forgotten, count = len(plan.forgotten), len(plan.points)
    share = f" ({100 * forgotten / count:.0f} %)" if count else ""
    points = format_count(count, "point")
    return f"{points}: keep {count - forgotten}, forget {forgotten}{share}"
