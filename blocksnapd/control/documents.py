"""The documents of the control socket that hold others, and those about the daemon itself. Pure.

The rules of ``messages.py`` are those of this file.
"""

from __future__ import annotations

from typing import Any, TypedDict

# At run time, too: the schemas are made of them.
from blocksnapd.control.drill_messages import Drill  # noqa: TC001
from blocksnapd.control.messages import Point, Run, VolumeStatus  # noqa: TC001


class Volumes(TypedDict):
    """GET /v1/volumes."""

    schema: int
    volumes: list[VolumeStatus]


class Points(TypedDict):
    """GET /v1/points."""

    schema: int
    points: list[Point]


class Runs(TypedDict):
    """GET /v1/runs."""

    schema: int
    runs: list[Run]


class Drills(TypedDict):
    """GET /v1/drills."""

    schema: int
    drills: list[Drill]


class Live(TypedDict):
    """GET /v1/health/live."""

    schema: int
    live: bool


class Ready(TypedDict):
    """GET /v1/health/ready."""

    schema: int
    ready: bool


class FilesLine(TypedDict, total=False):
    """A line of GET /v1/points/{selector}/files: one part of what there is."""

    directory: str
    entries: list[dict[str, Any]]
    volumes: list[dict[str, Any]]
    note: str


class HostVolume(TypedDict):
    """A block volume of a host; sizes in bytes, rates in bytes a second, None where unknown.

    ``write_rate`` is what was written just now, ``write_rate_since_boot`` the average since then.
    ``vg_free`` is the room of its volume group outside of COW space, ``cow_free`` that on it.
    ``no_snapshot`` says why it can only be compared; ``toml`` is empty for one that is protected.
    """

    volume: str
    device: str
    size: int
    filesystem: str
    mounts: list[str]
    write_rate: float | None
    write_rate_since_boot: float | None
    vg: str
    vg_free: int | None
    cow_free: int | None
    no_snapshot: str
    protected: bool
    toml: str


class HostVolumes(TypedDict):
    """``volumes``: the host's block volumes; the rate of now is of the last ``looked_s``."""

    schema: int
    looked_s: float
    volumes: list[HostVolume]


class CheckupFinding(TypedDict):
    """A thing that is not right: ``about`` a volume or target, empty for the host itself.

    ``code`` is what ``explain`` knows; ``fixable`` whether ``doctor --fix`` repairs it.
    """

    code: str
    about: str
    message: str
    effect: str
    hint: str
    fixable: bool


class Checkup(TypedDict):
    """``doctor``: what it repaired, in sentences, and what is not right (still, if ``fixed``)."""

    schema: int
    fixed: bool
    done: list[str]
    findings: list[CheckupFinding]


class ConfigTold(TypedDict):
    """GET /v1/config: every setting that holds, by its dotted name; keys are named, not shown."""

    schema: int
    path: str
    loaded: str
    settings: dict[str, Any]


class Reloaded(TypedDict):
    """POST /v1/reload: what is different now, line by line as ``config diff`` tells it.

    ``waiting`` are volumes whose run under way is seen through before they take theirs;
    ``restart`` are changes that only a restart of the daemon brings about.
    """

    schema: int
    changed: list[str]
    waiting: list[str]
    restart: list[str]
