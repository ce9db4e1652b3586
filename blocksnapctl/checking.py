"""The verb ``check``: the state of the volumes as a Nagios plug-in tells it. Edge.

One line, exit codes 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN and no others. A volume is critical
when it is late or has no point, a warning when it fails, has a warned-of share of its RPO behind
it, is paused, or its COW device was lost or will be full before the time of a cycle is over.
Source: the Monitoring Plugins Development Guidelines, for line and ``perfdata``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, cast

from blocksnapctl.client import ProblemError
from blocksnapctl.render import clean, named
from blocksnapd.control.messages import SCHEMA
from blocksnapd.errors import BlocksnapError
from blocksnapd.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blocksnapctl.commands import Context
    from blocksnapd.control.messages import Status, VolumeStatus

OK, WARNING, CRITICAL, UNKNOWN = range(4)
WORDS: Final = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
WARN_SHARE: Final = 0.6  # of the RPO: with every = rpo / 2, one run that failed
_WEIGHT: Final = (OK, WARNING, UNKNOWN, CRITICAL)  # worst last


class Verdict(NamedTuple):
    """One volume's level and why it is not well; empty when it is."""

    level: int
    text: str


def check(context: Context) -> int:
    """Print the one line; return its level."""
    out, wanted = context.output, context.arguments.volumes
    try:
        found = cast("Status", context.daemon.get("status"))
        known = [v["volume"] for v in found["volumes"]]
        missing = [name for name in wanted if name not in known]
        labelled = named(found["volumes"])
        volumes = [v for name, v in zip(known, labelled, strict=True) if name in wanted]
        volumes = volumes or labelled
        level, text, perf = told(volumes, missing)
    except BlocksnapError as error:
        level, text, perf = UNKNOWN, error.message, ""
    except ProblemError as error:
        level, text, perf = UNKNOWN, error.problem.get("message", "the daemon refused"), ""
    if out.as_json:
        out.document({"schema": SCHEMA, "level": WORDS[level], "message": text, "perfdata": perf})
    else:
        line = clean(f"BLOCKSNAP {WORDS[level]} - {text.replace('|', '/')}")
        out.data(f"{line} | {clean(perf)}" if perf else line)
    return level


def told(volumes: Sequence[VolumeStatus], missing: Sequence[str]) -> tuple[int, str, str]:
    """Return the worst level, what is wrong (or that nothing is), and the performance data."""
    verdicts = [judge(v) for v in volumes]
    verdicts += [Verdict(UNKNOWN, f"no volume {name} is configured") for name in missing]
    if not verdicts:
        return UNKNOWN, "no volume is configured", ""
    level = max((v.level for v in verdicts), key=_WEIGHT.index)
    bad = sorted((v for v in verdicts if v.text), key=lambda v: -_WEIGHT.index(v.level))
    text = ", ".join(v.text for v in bad)
    if not text:
        count = len(volumes)
        text = f"{count} volume{'' if count == 1 else 's'} within the RPO"
    return level, text, " ".join(filter(None, map(_perf, volumes)))


def judge(volume: VolumeStatus) -> Verdict:
    """Return how bad it is about one volume."""
    name, state, rpo = volume["volume"], volume["state"], volume.get("rpo", 0.0)
    exposure, paused = volume.get("exposure"), volume.get("paused")
    if exposure is None:
        is_seeding = state == "seeding"
        return Verdict(WARNING if is_seeding else CRITICAL, f"{name} has no point yet")
    text = f"{name} exposure {format_duration(exposure)}"
    if exposure > rpo:
        if paused:
            return Verdict(WARNING, f"{text} > rpo {format_duration(rpo)} (paused)")
        return Verdict(CRITICAL, f"{text} > rpo {format_duration(rpo)}")
    if causes := volume.get("causes", []):
        return Verdict(WARNING, f"{name} {causes[0].get('message', 'is failing')}")
    if paused:
        return Verdict(WARNING, f"{name} is paused")
    if text_of_cow := _cow(volume):
        return Verdict(WARNING, f"{name} {text_of_cow}")
    if exposure > WARN_SHARE * rpo and exposure > volume.get("every", 0.0):
        return Verdict(WARNING, f"{text} of rpo {format_duration(rpo)}")
    return Verdict(OK, "")


def _cow(volume: VolumeStatus) -> str:
    """Return how the COW device endangers the tracking: lost, or full before a cycle helps."""
    cow = volume.get("cow")
    if not cow:
        return ""
    if cow.get("is_lost"):
        return "lost its tracking: the next run compares the whole volume"
    full_in = cow.get("full_in")
    if full_in is None or full_in >= volume.get("every", 0.0):
        return ""
    return f"fills its COW space in {format_duration(full_in)}"


def _perf(volume: VolumeStatus) -> str:
    """Return ``'label'=value;warn;crit``; a quote in a label is written twice."""
    exposure, rpo = volume.get("exposure"), volume.get("rpo", 0.0)
    label = volume["volume"].replace("'", "''").replace("=", "_")
    if exposure is None:
        return ""
    return f"'{label}_exposure'={exposure:.0f}s;{WARN_SHARE * rpo:.0f};{rpo:.0f}"
