"""Points and a policy → which are kept, and every reason for each. Pure.

The rules are those of ``keep_rules.py``; beside them stand what no rule may drop: the newest
points, the last verified one, what is held and what carries a tag to keep.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.keep_rules import DAY_US

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blocksnapd.keep_rules import Rule


@dataclass(frozen=True, slots=True)
class Policy:
    """What an operator wants to keep.

    Attributes:
        rules: a point that any of them keeps is kept.
        keep_tags: patterns as in file names; a point with a tag that fits one is kept.
        min_points: so many of the newest are kept whatever their age, at least 1.
        max_delete_pct: no run on its own forgets a larger share of the points; 100: no limit.
        undelete_us: how long a forgotten point can be brought back.
    """

    rules: tuple[Rule, ...]
    keep_tags: tuple[str, ...] = ()
    min_points: int = 3
    max_delete_pct: float = 30.0
    undelete_us: int = 14 * DAY_US


@dataclass(frozen=True, slots=True)
class Candidate:
    """A point that is not forgotten. ``held`` says why nobody may drop it; empty: anybody may.

    ``verified``: its content was read back and found whole.
    """

    seq: int
    point_id: str
    time_us: int
    tags: tuple[str, ...] = ()
    held: str = ""
    verified: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a point: kept for these reasons; forgotten when there is none."""

    point: Candidate
    reasons: tuple[str, ...]

    @property
    def keep(self) -> bool:
        """Whether it is kept."""
        return bool(self.reasons)


def decide(points: Sequence[Candidate], policy: Policy, now_us: int) -> list[Verdict]:
    """Return what becomes of each of ``points``, in the order of ``seq``.

    The newest is always kept, so are the last that was verified, what is held, and the newest
    ``min_points``.
    """
    ordered = sorted(points, key=lambda p: p.seq)
    times = np.array([p.time_us for p in ordered], dtype=np.int64)
    reasons: list[list[str]] = [[] for _ in ordered]
    for rule in policy.rules:
        for at in np.flatnonzero(rule.kept(times, now_us)).tolist():
            reasons[at].append(rule.text)
    for at, point in enumerate(ordered):
        reasons[at] += _own_reasons(point, policy.keep_tags)
    _always(ordered, reasons, policy.min_points)
    return [Verdict(p, tuple(r)) for p, r in zip(ordered, reasons, strict=True)]


def _own_reasons(point: Candidate, patterns: tuple[str, ...]) -> list[str]:
    found = [f"tag {t}" for t in point.tags if any(fnmatchcase(t, p) for p in patterns)]
    return [*found, point.held] if point.held else found


def _always(points: Sequence[Candidate], reasons: list[list[str]], min_points: int) -> None:
    """Add the reasons that no policy can take away."""
    verified = [at for at, p in enumerate(points) if p.verified]
    if verified:
        reasons[verified[-1]].append("last verified")
    if points:
        reasons[-1].append("newest")
    for found in reasons[-max(1, min_points) : -1]:
        found.append(f"newest {min_points}")
