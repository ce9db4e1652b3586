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
