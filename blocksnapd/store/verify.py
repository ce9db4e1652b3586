"""Reading everything a point needs, and telling what is damaged. Edge (threads).

Structure: every point back to the nearest full one is genuine, whole and the one its successor
names; layers fit; the tails of the packs are those the points name; the identities of all
blocks of the image add up to the point's state sum. Data: every byte of every pack the image
needs is read, every frame opens, every block has its identity.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.blocks import state_add, state_sum
from blocksnapd.errors import BlocksnapError, FormatError, NotFoundError, StoreError
from blocksnapd.store.names import is_point_name, parse_point_name, points_prefix
from blocksnapd.store.pack_check import PackCheck, check_pack
from blocksnapd.store.pieces import by_pack
from blocksnapd.store.point_reader import LoadedPoint, PointMap, PointReader, map_of
from blocksnapd.store.runs import SLOT_MASK, Runs, expand, runs_of
from blocksnapd.store.seal import damaged

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocksnapd.model import U64, RestorePoint
    from blocksnapd.store.keys import MaintenanceKey
    from blocksnapd.store.objects import ObjectStore

RANGES_MAX = 1000


@dataclass(frozen=True, slots=True)
class ObjectCheck:
    """One object (or inline pack) that was looked at; ``problem`` is empty when it is whole."""

    name: str
    size: int
    problem: str = ""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What verifying a point showed.

    ``damaged`` lists byte ranges ``(start, end)`` of the image that cannot be restored, sorted,
    at most ``RANGES_MAX``; ``damaged_bytes`` counts them all. ``point`` is None when the point
    itself cannot be read.
    """

    name: str
    point: RestorePoint | None
    with_data: bool
    objects: tuple[ObjectCheck, ...]
    checked_blocks: int
    damaged_bytes: int
    damaged: tuple[tuple[int, int], ...]
    problems: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        """Whether the point can be restored, every byte."""
        return not self.problems


@dataclass(frozen=True, slots=True, eq=False)
class _Needed:
    """What of a pack a point needs: the terms of its state sum; blocks it cannot have."""

    check: ObjectCheck
    blocks: int
    sum: int | None
    lost: U64


class Verifier:
    """Verifies points of one repository; ``progress`` is told bytes read so far and in all."""

    def __init__(
        self,
        store: ObjectStore,
        reader: PointReader,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self._store, self._reader = store, reader
        self._progress = progress or (lambda _done, _all: None)
        self._objects: list[ObjectCheck] = []

    def verify(self, name: str, *, with_data: bool) -> VerifyReport:
        """Return what is wrong with the point ``name``, if anything.

        Raises:
            KeyMissingError: no restore.key. NotFoundError: there is no such point.
        """
        key = self._reader.metadata_key
        chain, mapped = self._chain(name)
        point = chain[0].point if chain else None
        if mapped is None or point is None:
            size = point.facts.size if point else 0
            return self._report(name, point, with_data, [], [(0, size)] if size else [])
        results = self._packs(mapped, key, with_data)
        self._objects += [result.check for result in results]
        lost = np.sort(np.concatenate([r.lost for r in results])) if results else mapped.runs.starts
        extra = _sum_problem(point, results)
        return self._report(name, point, with_data, results, _ranges(lost, point), extra)

    def history(self, volume_id: str) -> tuple[ObjectCheck, ...]:
        """Return every object among a volume's points, oldest first, each with what is wrong.

        Needs no restore.key: tags and the chain of digests are clear.
        """
        before, before_digest = "", ""
        for name in self._store.list_names(points_prefix(volume_id)):
            if not is_point_name(name):
                self._objects.append(ObjectCheck(name, 0, "it is not a point"))
                continue
            size, problem = 0, ""
            try:
                size = self._store.size(name)
                found = self._reader.load_clear(name)
                header = found.header
                if (header.prev_name, header.prev_digest) != (before, before_digest):
                    problem = _link_problem(header.prev_name, before, name)
                before, before_digest = name, found.digest
            except BlocksnapError as error:
                problem = error.message
                before, before_digest = name, ""
            self._objects.append(ObjectCheck(name, size, problem))
        return tuple(self._objects)

    def _chain(self, name: str) -> tuple[list[LoadedPoint], PointMap | None]:
        # Newest first; the map is None when a point on the way is damaged.
        chain: list[LoadedPoint] = []
        digest, at = "", name
        try:
            while not chain or chain[-1].object.header.kind != "full":
                loaded = self._reader.load(at)
                if digest and loaded.object.digest != digest:
                    raise damaged(f"{at} (it has another digest than its successor says, so it)")
                chain.append(loaded)
                loaded.check()
                self._objects.append(ObjectCheck(at, loaded.object.size))
                at, digest = loaded.object.header.prev_name, loaded.object.header.prev_digest
            mapped = map_of(chain[::-1])
        except NotFoundError as error:
            if not chain:
                raise
            self._objects.append(ObjectCheck(at, 0, error.message))
            return chain, None
        except (FormatError, StoreError) as error:
            self._objects.append(ObjectCheck(at, 0, error.message))
            return chain, None
        return chain, mapped

    def _packs(self, mapped: PointMap, key: MaintenanceKey, with_data: bool) -> list[_Needed]:
        wanted = [(mapped.places[pack], runs) for pack, runs in by_pack(mapped.runs)]
        total = sum(place.ref.size for place, _ in wanted)
        done, results = 0, []
        with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="verify") as workers:
            for result in workers.map(
                lambda item: _needed(
                    check_pack(self._store, item[0], key, with_data=with_data), item[1]
                ),
                wanted,
            ):
                results.append(result)
                done += result.check.size
                self._progress(done, total)
        return results

    def _report(
        self,
        name: str,
        point: RestorePoint | None,
        with_data: bool,
        results: list[_Needed],
        ranges: list[tuple[int, int]],
        extra: str = "",
    ) -> VerifyReport:
        problems = [f"{o.name}: {o.problem}" for o in self._objects if o.problem]
        return VerifyReport(
            name=name,
            point=point,
            with_data=with_data,
            objects=tuple(self._objects),
            checked_blocks=sum(result.blocks for result in results),
            damaged_bytes=sum(end - start for start, end in ranges),
            damaged=tuple(ranges[:RANGES_MAX]),
            problems=(*problems, *([extra] if extra else [])),
        )


def _needed(found: PackCheck, runs: Runs) -> _Needed:
    blocks, locations = expand(runs)
    slots = (locations & SLOT_MASK).astype(np.intp)
    ref = found.place.ref
    check = ObjectCheck(ref.name, ref.size, found.problem)
    lost = blocks[np.isin(slots, found.lost)]
    known = None
    if found.reader is not None:
        known = state_sum(blocks, found.reader.identities(slots))
    return _Needed(check, found.blocks, known, lost)


def _sum_problem(point: RestorePoint, results: list[_Needed]) -> str:
    total = 0
    for result in results:
        if result.sum is None:
            return ""  # a pack without a readable tail is reported already
        total = state_add(total, result.sum, 0)
    if total == point.facts.state_sum:
        return ""
    return (
        f"{point.name}: the blocks of the image do not add up to its state sum: a layer lost, "
        "doubled or exchanged an entry, or the source was wrong"
    )


def _link_problem(said: str, before: str, name: str) -> str:
    if before and parse_point_name(before).seq == parse_point_name(name).seq:
        return f"a second point of this number, beside {before}"
    if said != before:
        return f"it follows {said or 'no point'}, but {before or 'nothing'} lies before it"
    return f"it was written after another {before} than the one that is there"


def _ranges(lost: U64, point: RestorePoint) -> list[tuple[int, int]]:
    starts, lengths = runs_of(lost)
    size, end = point.facts.block_size, point.facts.size
    return [
        (start * size, min((start + length) * size, end))
        for start, length in zip(starts.tolist(), lengths.tolist(), strict=True)
    ]
