"""Reading everything a point needs, and telling what is damaged. Edge (threads).

Structure: the point and the layers that lead to it are genuine, whole and follow one another; the
tails of the packs are those they name; the identities of all blocks of the image add up to the
point's state sum. Data: every byte of every pack the image needs is read, once; every frame opens,
every block has its identity. ``maintain/verify_levels.py`` does the same for a whole volume.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.blocks import runs_of, state_add, state_sum
from blocksnapd.errors import BlocksnapError, FormatError, NotFoundError, StoreError
from blocksnapd.store.manifests import Manifests
from blocksnapd.store.names import is_point_name, parse_point_name, points_prefix
from blocksnapd.store.pack_check import PackCheck, Slots, check_pack
from blocksnapd.store.pieces import by_pack
from blocksnapd.store.runs import SLOT_MASK, expand
from blocksnapd.store.slot_tables import SlotTables
from blocksnapd.store.span_set import SpanSet
from blocksnapd.store.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from blocksnapd.model import U64, RestorePoint
    from blocksnapd.store.layers import PackPlace
    from blocksnapd.store.objects import ObjectStore
    from blocksnapd.store.point_format import Header
    from blocksnapd.store.point_reader import LoadedPoint, PointReader
    from blocksnapd.store.redirect import ContentMap

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
    itself cannot be read. ``notes`` tell of damage that harms this point in nothing.
    """

    name: str
    point: RestorePoint | None
    with_data: bool
    objects: tuple[ObjectCheck, ...]
    checked_blocks: int
    damaged_bytes: int
    damaged: tuple[tuple[int, int], ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether the point can be restored, every byte."""
        return not self.problems


@dataclass(slots=True)
class _Seen:
    # What is known so far. ``lost`` has runs of blocks, (starts, lengths), in no order.
    objects: dict[str, ObjectCheck] = field(default_factory=dict)
    packs: dict[str, PackPlace] = field(default_factory=dict)
    bad: dict[str, Slots] = field(default_factory=dict)
    lost: list[tuple[U64, U64]] = field(default_factory=list)
    sum: int = 0
    is_sum_known: bool = True
    blocks: int = 0
    problems: list[str] = field(default_factory=list)

    def note(self, check: PackCheck) -> None:
        ref = check.place.ref
        self.packs[ref.name] = check.place
        self.objects[ref.name] = ObjectCheck(ref.name, ref.size, check.problem)
        if len(check.lost):
            self.bad[ref.name] = check.lost


class Verifier:
    """Verifies points of one repository.

    Args:
        store: what holds it.
        reader: reads points.
        content: puts before a map what maintenance moved and mended.
        progress: told bytes of packs read so far and in all.
    """

    def __init__(
        self,
        store: ObjectStore,
        reader: PointReader,
        content: Callable[[LoadedPoint, Stack], ContentMap] = lambda _loaded, stack: stack,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self._store, self._reader, self._content = store, reader, content
        self._progress = progress or (lambda _done, _all: None)

    def verify(self, name: str, *, with_data: bool) -> VerifyReport:
        """Return what is wrong with the point ``name``, if anything.

        Raises:
            KeyMissingError: no key for metadata. NotFoundError: there is no such point.
        """
        seen = _Seen()
        try:
            loaded = self._reader.load(name)
        except (FormatError, StoreError) as error:
            seen.objects[name] = ObjectCheck(name, 0, error.message)
            return _report(name, None, seen, with_data=with_data)
        seen.objects[name] = ObjectCheck(name, loaded.object.size)
        content = self._open(loaded, seen)
        if content is None:
            seen.lost.append(_run(0, loaded.object.header.blocks))
            return _report(name, loaded.point, seen, with_data=with_data)
        self._structure(content, seen)
        if with_data:
            self._data(seen)
        self._map_damage(content, seen)
        if not seen.problems and seen.is_sum_known and seen.sum != loaded.point.facts.state_sum:
            seen.problems.append(
                f"{name}: the blocks of the image do not add up to its state sum: a layer lost, "
                "doubled or exchanged an entry, or the source was wrong"
            )
        return _report(name, loaded.point, seen, with_data=with_data, notes=content.problems)

    def history(self, volume_id: str) -> tuple[ObjectCheck, ...]:
        """Return every object among a volume's points, oldest first, each with what is wrong.

        Needs no key but the hash key: tags and the chain of digests are clear.
        """
        found, before, before_digest = [], "", ""
        for name in self._store.list_names(points_prefix(volume_id)):
            if not is_point_name(name):
                found.append(ObjectCheck(name, 0, "it is not a point"))
                continue
            size, problem = 0, ""
            try:
                size = self._store.size(name)
                point = self._reader.load_clear(name)
                header = point.header
                if (header.prev_name, header.prev_digest) != (before, before_digest):
                    problem = _link_problem(header.prev_name, before, name)
                before, before_digest = name, point.digest
            except BlocksnapError as error:
                problem = error.message
                before, before_digest = name, ""
            found.append(ObjectCheck(name, size, problem))
        return tuple(found)

    def _open(self, loaded: LoadedPoint, seen: _Seen) -> ContentMap | None:
        header = loaded.object.header
        manifests = Manifests(self._store, self._reader.metadata_key)
        manifest, _ = manifests.readable(header.volume_id)
        spans = SpanSet(self._store, self._reader, manifest)
        try:
            spans.give(loaded)
            stack = Stack(spans, 0, header.seq, digest=loaded.object.digest)
        except (FormatError, StoreError, NotFoundError) as error:
            _note_spans(spans.problems, seen)
            if not any(check.problem for check in seen.objects.values()):
                missing = self._missing(header) or header.name
                seen.objects[missing] = ObjectCheck(missing, 0, error.message)
            return None
        for span in stack.chain:
            seen.objects.setdefault(span.name, ObjectCheck(span.name, 0))
        return self._content(loaded, stack)

    def _missing(self, header: Header) -> str:
        # Back to the point whose predecessor is not there.
        there = set(self._store.list_names(points_prefix(header.volume_id)))
        while header.kind != "full" and header.prev_name in there:
            header = self._reader.load_clear(header.prev_name).header
        return header.prev_name if header.kind != "full" else ""

    def _structure(self, content: ContentMap, seen: _Seen) -> None:
        tables = SlotTables(self._store, self._reader.metadata_key, seen.note)
        for first, end in content.windows():
            try:
                runs = content.content(first, end)
            except (FormatError, StoreError, NotFoundError) as error:
                seen.problems.append(error.message)
                seen.lost.append(_run(first, end))
                continue
            for pack, part in by_pack(runs):
                blocks, locations = expand(part)
                slots = (locations & SLOT_MASK).astype(np.intp)
                found = tables.identities(content.places[pack], slots)
                if found is None:
                    seen.is_sum_known = False
                else:
                    seen.sum = state_add(seen.sum, state_sum(blocks, found), 0)

    def _data(self, seen: _Seen) -> None:
        places = list(seen.packs.values())
        done, total = 0, sum(place.ref.size for place in places)
        key = self._reader.metadata_key

        def check(place: PackPlace) -> PackCheck:
            return check_pack(self._store, place, key, with_data=True)

        with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="verify") as workers:
            for result in workers.map(check, places):
                seen.note(result)
                seen.blocks += result.blocks
                done += result.place.ref.size
                self._progress(done, total)

    def _map_damage(self, content: ContentMap, seen: _Seen) -> None:
        if not seen.bad:
            return
        for first, end in content.windows():
            try:
                runs = content.content(first, end)
            except (FormatError, StoreError, NotFoundError):
                continue  # all of it is lost already
            for pack, part in by_pack(runs):
                bad = seen.bad.get(content.places[pack].ref.name)
                if bad is not None:
                    blocks, locations = expand(part)
                    slots = (locations & SLOT_MASK).astype(np.intp)
                    seen.lost.append(runs_of(np.sort(blocks[np.isin(slots, bad)])))


def _note_spans(problems: Iterable[str], seen: _Seen) -> None:
    for problem in problems:
        name, _, text = problem.partition(": ")
        seen.objects[name] = ObjectCheck(name, 0, text)


def _report(
    name: str,
    point: RestorePoint | None,
    seen: _Seen,
    *,
    with_data: bool,
    notes: Iterable[str] = (),
) -> VerifyReport:
    ranges = _ranges(seen.lost, point) if point else []
    problems = [f"{o.name}: {o.problem}" for o in seen.objects.values() if o.problem]
    return VerifyReport(
        name=name,
        point=point,
        with_data=with_data,
        objects=tuple(seen.objects.values()),
        checked_blocks=seen.blocks,
        damaged_bytes=sum(end - start for start, end in ranges),
        damaged=tuple(ranges[:RANGES_MAX]),
        problems=(*problems, *seen.problems),
        notes=tuple(notes),
    )


def _link_problem(said: str, before: str, name: str) -> str:
    if before and parse_point_name(before).seq == parse_point_name(name).seq:
        return f"a second point of this number, beside {before}"
    if said != before:
        return f"it follows {said or 'no point'}, but {before or 'nothing'} lies before it"
    return f"it was written after another {before} than the one that is there"


def _run(first: int, end: int) -> tuple[U64, U64]:
    return np.array([first], dtype=np.uint64), np.array([end - first], dtype=np.uint64)


def _ranges(lost: list[tuple[U64, U64]], point: RestorePoint) -> list[tuple[int, int]]:
    size, end = point.facts.block_size, point.facts.size
    runs = sorted(
        (start, start + length)
        for starts, lengths in lost
        for start, length in zip(starts.tolist(), lengths.tolist(), strict=True)
    )
    found: list[tuple[int, int]] = []
    for first, last in runs:
        if found and found[-1][1] == first:
            first = found.pop()[0]
        found.append((first, last))
    return [(a * size, min(b * size, end)) for a, b in found if a * size < end]
