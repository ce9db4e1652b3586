"""Reads from a repository where and when a volume changed. Edge; blocking.

A point's own layer says what changed since the point before. Where that one has expired, a merged
layer that leads over the gap does. Only points that are asked for are read, one at a time and piece
by piece: cost follows the changes, memory a piece and the matrix.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.control.map_messages import POINTS_MAX, ChangeMap, MapCycle, MapQuery
from blocksnapd.control.messages import SCHEMA, format_time
from blocksnapd.errors import NotFoundError
from blocksnapd.keep_rules import SECOND_US
from blocksnapd.maintain.history import UNREADABLE, Change, History
from blocksnapd.service.change_grid import Grid
from blocksnapd.store.names import parse_point_name
from blocksnapd.store.point_reader import PointReader
from blocksnapd.store.point_span import PointSpan

if TYPE_CHECKING:
    from blocksnapd.maintain.prune import Pruner
    from blocksnapd.model import U64
    from blocksnapd.store.layers import Span
    from blocksnapd.store.point_reader import LoadedPoint


@dataclass(slots=True)
class _Cycle:
    """What is known of the points of one column."""

    since_us: int | None
    time_us: int = 0
    points: int = 0
    unknown: int = 0
    full: bool = False
    blocks: U64 = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))


def change_map(pruner: Pruner, volume: str, volume_id: str, query: MapQuery) -> ChangeMap:
    """Return the map of a volume.

    Raises:
        NotFoundError: it has no point that can be read. StoreError: the place failed.
    """
    reader = PointReader(pruner.store, pruner.key.source, pruner.key)
    history = History(pruner.store, reader, pruner.key, volume_id)
    return _Reading(history, reader, query).read(volume)


class _Reading:
    def __init__(self, history: History, reader: PointReader, query: MapQuery) -> None:
        self._history, self._reader, self._query = history, reader, query
        listed = history.loaded.manifest.points
        self._times = {entry.seq: entry.time_us for entry in listed}

    def read(self, volume: str) -> ChangeMap:
        names = self._chosen()
        newest = self._newest(names)
        header = newest.object.header
        grid = Grid(header.blocks, self._query.regions)
        share = -(-len(names) // self._query.cycles)
        before = self._history.names[-len(names) - 1] if self._before(names) else ""
        cycles: list[_Cycle] = []
        since_us = self._times.get(parse_point_name(before).seq) if before else None
        for number, name in enumerate(names):
            if number % share == 0:
                cycles.append(_Cycle(since_us, blocks=np.zeros(grid.regions, dtype=np.uint64)))
            since_us = self._add(cycles[-1], grid, name, before)
            before = name
        sizes = [c.blocks * np.uint64(header.block_size) for c in cycles]
        return {
            "schema": SCHEMA,
            "volume": volume,
            "size": header.size,
            "block_size": header.block_size,
            "region_size": grid.region_blocks * header.block_size,
            "regions": grid.regions,
            "cycles": [_message(c, int(s.sum())) for c, s in zip(cycles, sizes, strict=True)],
            "matrix": [s.tolist() for s in sizes],
            "left_out": len(self._history.names) - len(names),
        }

    def _chosen(self) -> list[str]:
        since_us = self._query.since * SECOND_US
        names = self._history.names
        # Those that the manifest does not list are the newest; they are few.
        return [
            name
            for name in names[-POINTS_MAX:]
            if self._times.get(parse_point_name(name).seq, since_us) >= since_us
        ]

    def _before(self, names: list[str]) -> bool:
        return 0 < len(names) < len(self._history.names)

    def _newest(self, names: list[str]) -> LoadedPoint:
        for name in reversed(names):
            try:
                return self._reader.load(name)
            except UNREADABLE:
                continue
        raise NotFoundError(
            "there is no point of that time that can be read",
            effect="Nothing was read.", hint="Look at the points: blocksnapctl points.",
        )  # fmt: skip

    def _add(self, cycle: _Cycle, grid: Grid, name: str, before: str) -> int | None:
        """Add what one point changed; return its instant, if it can be read."""
        cycle.points += 1
        try:
            loaded = self._reader.load(name)
            header = loaded.object.header
            cycle.time_us = header.time_us
            if header.kind == "full":
                cycle.full = True
            else:
                found = self._span(loaded, before)
                if found is None:
                    cycle.unknown += 1
                else:
                    cycle.blocks += _covered(grid, found)
        except UNREADABLE:
            cycle.unknown += 1
            seq = parse_point_name(name).seq
            cycle.time_us = self._times.get(seq, cycle.time_us or cycle.since_us or 0)
            return None
        return header.time_us

    def _span(self, loaded: LoadedPoint, before: str) -> Span | None:
        """Return what says what changed since the point listed before, or since an older one."""
        header = loaded.object.header
        if not before or header.prev_name == before:
            return PointSpan(loaded)
        after = parse_point_name(before).seq
        layers = [
            ref
            for ref in self._history.loaded.manifest.layers
            if ref.to_seq == header.seq and ref.from_seq <= after
        ]
        if not layers:
            return None
        return self._history.open_layer(max(layers, key=lambda ref: ref.from_seq))


def _covered(grid: Grid, span: Span) -> U64:
    found = np.zeros(grid.regions, dtype=np.uint64)
    for runs in Change(span, 0).windows():
        found += grid.covered(runs)
    return found


def _message(cycle: _Cycle, changed_bytes: int) -> MapCycle:
    since = cycle.since_us
    return {
        "since": None if since is None else format_time(since / SECOND_US),
        "time": format_time(cycle.time_us / SECOND_US),
        "points": cycle.points,
        "changed_bytes": changed_bytes,
        "full": cycle.full,
        "unknown": cycle.unknown,
    }
