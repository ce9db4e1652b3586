"""The message of ``GET /v1/maps/{volume}``: where and when a volume changed. Pure.

The matrix has a row for each cycle, oldest first, and in it a number for each region, from the
volume's start: how many bytes of the region changed. Several points share a cycle when there are
more of them than were asked for.
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypedDict

REGIONS_MAX: Final = 1024
CYCLES_MAX: Final = 1000
POINTS_MAX: Final = 2000  # the newest; each is read


class MapQuery(NamedTuple):
    """What is asked for: so many regions and cycles at most, of points since an instant."""

    regions: int = 64
    cycles: int = 200
    since: float = 0.0


class MapCycle(TypedDict):
    """One or more points that follow one another.

    ``since`` is the instant of the point before, null where there is none; ``full``: one of them
    holds everything afresh, so that nothing is known of what changed; ``unknown``: of some of the
    points, damaged ones, likewise.
    """

    since: str | None
    time: str
    points: int
    changed_bytes: int
    full: bool
    unknown: int


class ChangeMap(TypedDict):
    """All of it; ``left_out`` counts older points that were not read."""

    schema: int
    volume: str
    size: int
    block_size: int
    region_size: int
    regions: int
    cycles: list[MapCycle]
    matrix: list[list[int]]
    left_out: int
