"""How the volumes are, in the words of the control socket. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocksnapd.control.messages import SCHEMA, Problem, VolumeState, VolumeStatus, format_time
from blocksnapd.control.messages import parse_time as parse

if TYPE_CHECKING:
    from blocksnapd.config import Volume
    from blocksnapd.control.cow_messages import CowUse
    from blocksnapd.control.messages import Point
    from blocksnapd.control.pause_messages import Paused
    from blocksnapd.service.runs import LiveRun


def exposure_s(newest: Point | None, now: float) -> float | None:
    """Return the seconds since the newest point's instant: what a disaster now would cost."""
    return None if newest is None else max(0.0, now - parse(newest["time"]).timestamp())


def state_word(
    exposure: float | None, rpo_s: float, *, is_running: bool, is_troubled: bool
) -> VolumeState:
    """Return the volume's state in one word."""
    if exposure is None:
        return "seeding" if is_running and not is_troubled else "unprotected"
    if exposure > rpo_s:
        return "late"
    return "failing" if is_troubled else "protected"


def volume_status(
    settings: Volume,
    *,
    now: float,
    newest: Point | None,
    point_count: int,
    size: int,
    due_in_s: float,
    failures: int,
    causes: list[Problem],
    cow: CowUse | None,
    active: LiveRun | None,
    last: LiveRun | None,
    paused: Paused | None = None,
) -> VolumeStatus:
    """Return everything about one volume."""
    exposure = exposure_s(newest, now)
    return {
        "schema": SCHEMA,
        "volume": settings.name,
        "driver": settings.driver,
        "target": settings.target,
        "state": state_word(
            exposure, settings.rpo_s, is_running=active is not None, is_troubled=bool(causes)
        ),
        "size": size,
        "every": settings.every_s,
        "rpo": settings.rpo_s,
        "exposure": exposure,
        "last_point": newest,
        "next_run": None if active or paused else format_time(now + due_in_s),
        "retry": failures,
        "last_run": last.message() if last else None,
        "active_run": active.message() if active else None,
        "cow": cow,
        "points": point_count,
        "keep": [rule.text for rule in settings.retention.keep] if settings.retention else [],
        "causes": causes,
        "paused": paused,
    }
