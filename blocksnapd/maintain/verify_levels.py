"""Verifying a whole volume: each object once, and damage told to exactly the points it harms. Edge.

structure   every point, the chain, the manifest, the tail of every pack; the state sum of
every point, made anew at the cost of what changed from point to point
data        packs read whole, each once, however many points need it
damage      only when there is any: which blocks of which points need damaged slots
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from msgspec.structs import replace

from blocksnapd.errors import CancelledRunError
from blocksnapd.maintain.damage import RANGES_MAX, DamageWalk, byte_ranges
from blocksnapd.maintain.history import History, Step
from blocksnapd.maintain.layer_check import LayerChecks
from blocksnapd.maintain.other_objects import check_others
from blocksnapd.maintain.patched import Patched
from blocksnapd.maintain.scratch import Scratch
from blocksnapd.maintain.state_walk import StateWalk
from blocksnapd.store.moved_check import PackChecks
from blocksnapd.store.point_reader import PointReader
from blocksnapd.store.slot_tables import SlotTables
from blocksnapd.store.verify import ObjectCheck

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from blocksnapd.model import U8, U64
    from blocksnapd.store.keys import MaintenanceKey
    from blocksnapd.store.layers import PackPlace
    from blocksnapd.store.manifest_format import LoadedManifest
    from blocksnapd.store.objects import ObjectStore
    from blocksnapd.store.pack_check import PackCheck, Slots
    from blocksnapd.store.point_format import PackRef

_LOST_SLOTS_MAX = 1 << 22


@dataclass(slots=True)
class PointCheck:
    """What is wrong with one point.

    ``is_known``: what its image is made of can be read. ``has_own_problem``: its object has one,
    which the check of that object tells. ``damaged`` has at most ``RANGES_MAX`` byte ranges.
    """

    name: str
    point_id: str
    seq: int
    size: int
    block_size: int
    is_known: bool
    has_own_problem: bool
    problems: list[str] = field(default_factory=list)
    damaged_bytes: int = 0
    damaged: list[tuple[int, int]] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Whether it can be restored, every byte."""
        return not (self.has_own_problem or self.problems or self.damaged_bytes)


@dataclass(frozen=True, slots=True)
class PackUse:
    """A pack that points name, and the first of them."""

    place: PackPlace
    first_seq: int


@dataclass(slots=True)
class VolumeCheck:
    """What is known of a volume so far; ``lost`` has the damaged slots by the name of the pack.

    ``uses`` gives for each damaged pack (slots, blocks): each slot once for each block that some
    point keeps there. ``identities`` has those of packs whose table can be read. ``healed`` names
    damaged packs of which every damaged slot is read elsewhere.
    """

    volume_id: str
    manifest: LoadedManifest
    points: list[PointCheck] = field(default_factory=list)
    objects: dict[str, ObjectCheck] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    packs: dict[str, PackUse] = field(default_factory=dict)
    lost: dict[str, Slots] = field(default_factory=dict)
    identities: dict[str, U8] = field(default_factory=dict)
    uses: dict[str, tuple[U64, U64]] = field(default_factory=dict)
    healed: set[str] = field(default_factory=set)
    read_blocks: int = 0
    read_bytes: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether nothing at all is wrong."""
        return not self.told()

    @property
    def newest_seq(self) -> int:
        """The place of the newest point; 0: there is none."""
        return self.points[-1].seq if self.points else 0

    def told(self) -> list[str]:
        """Return every problem as a sentence that starts with the name of an object."""
        of_objects = [
            f"{o.name}: {o.problem}"
            for o in self.objects.values()
            if o.problem and o.name not in self.healed
        ]
        of_points = [f"{p.name}: {text}" for p in self.points for text in p.problems]
        return [*of_objects, *self.problems, *of_points]


class VolumeVerifier:
    """Verifies one volume. One thread; reads in several.

    Args:
        store: where it is.
        key: maintenance.key, or restore.key, which opens frames too.
        volume_id: which.
        scratch: a directory with room for 16 bytes per block with content.
        progress: told bytes read so far and in all, of the packs.
        cancelled: asked now and then.
    """

    def __init__(
        self,
        store: ObjectStore,
        key: MaintenanceKey,
        volume_id: str,
        *,
        scratch: str | None = None,
        progress: Callable[[int, int], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        self._store, self._key, self._volume_id = store, key, volume_id
        self._reader = PointReader(store, key.source, key)
        self._scratch = scratch
        self._progress = progress or (lambda _done, _all: None)
        self._cancelled = cancelled or (lambda: False)

    def structure(self) -> VolumeCheck:
        """Return what reading everything but frames shows.

        Raises:
            CancelledRunError: it was. HostError: no room for the scratch.
            StoreError: the place failed as a whole.
        """
        history = self._history()
        found = VolumeCheck(self._volume_id, history.loaded)
        for name in history.strange:
            found.objects[name] = ObjectCheck(name, 0, "it is not a point")
        seq = 0

        def seen(check: PackCheck) -> None:
            use = found.packs.setdefault(check.place.ref.name, PackUse(check.place, seq))
            if _told(use.place) != _told(check.place):
                check.problem = check.problem or "points tell different things of it"
            _note_pack(found, check)

        tables = SlotTables(self._store, self._key, seen, moved=found.manifest.manifest.moved)
        with Scratch(self._scratch) as scratch:
            walk = StateWalk(scratch, tables.identities)
            layers = LayerChecks(self._store, history, found.objects)
            for step in self._steps(history):
                seq = step.seq
                self._point(found, step, walk)
                layers.passing(step, walk)
            layers.finish()
        for other in check_others(self._store, self._key, self._volume_id):
            found.objects[other.name] = other
        self._damage(found, history)
        return found

    def data(self, found: VolumeCheck, names: Iterable[str]) -> list[PackCheck]:
        """Read the packs ``names`` of ``found`` whole and add what that shows; return the checks.

        Raises:
            CancelledRunError: it was; what was read until then is in ``found``.
        """
        places = [found.packs[name].place for name in names]
        total, done = sum(place.ref.size for place in places), 0
        checks = []
        lost_before = {name: len(slots) for name, slots in found.lost.items()}
        checker = PackChecks(self._store, self._key, found.manifest.manifest.moved)
        for check in self._read(places, checker):
            checks.append(check)
            done += check.place.ref.size
            found.read_blocks += check.blocks
            found.read_bytes += check.place.ref.size
            _note_pack(found, check)
            self._progress(done, total)
        if {name: len(slots) for name, slots in found.lost.items()} != lost_before:
            self._damage(found, self._history())
        return checks

    def add_lost(self, found: VolumeCheck, lost: Mapping[str, Slots]) -> None:
        """Add damaged slots that were found before, and which points they harm."""
        for name, slots in lost.items():
            known = found.lost.get(name, slots[:0])
            found.lost[name] = np.union1d(known, slots)
        if lost:
            self._damage(found, self._history())

    def _history(self) -> History:
        return History(self._store, self._reader, self._key, self._volume_id)

    def _steps(self, history: History) -> Iterator[Step]:
        for step in history.steps():
            if self._cancelled():
                raise CancelledRunError("the verification was cancelled")
            yield step

    def _point(self, found: VolumeCheck, step: Step, walk: StateWalk) -> None:
        check = PointCheck(
            step.name, step.point_id, step.seq, step.size, step.block_size,
            is_known=step.change is not None and step.header is not None,
            has_own_problem=bool(step.problem),
        )  # fmt: skip
        found.points.append(check)
        found.objects[step.name] = ObjectCheck(step.name, step.object_size, step.problem)
        for name in {step.missing, step.needs} - {"", *found.objects}:
            found.objects[name] = ObjectCheck(name, 0, "it is not there")
        if step.change is None:
            if step.needs:
                check.problems.append(f"its image needs {step.needs}, which cannot be read")
            return
        walk.apply(step.change)
        sums = {None, int(step.header.state_sum, 16)} if step.header else {walk.state_sum}
        if walk.state_sum not in sums:
            check.problems.append(
                "the blocks of the image do not add up to its state sum: a layer lost, doubled or "
                "exchanged an entry, or the source was wrong"
            )

    def _read(self, places: list[PackPlace], checker: PackChecks) -> Iterator[PackCheck]:
        def check(place: PackPlace) -> PackCheck | None:
            if self._cancelled():
                return None
            found = checker.check(place, with_data=True)
            if not len(found.lost):
                found.reader = found.own_identities = None  # its table is not needed any more
            return found

        with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="verify") as workers:
            for result in workers.map(check, places):
                if result is None:
                    raise CancelledRunError("the verification was cancelled")
                yield result

    def _damage(self, found: VolumeCheck, history: History) -> None:
        # Again from the start: what is damaged may have changed.
        found.uses.clear()
        for point in found.points:
            whole = [(0, point.size)] if point.size and not point.is_known else []
            point.damaged, point.damaged_bytes = whole, point.size if whole else 0
        patched = Patched(found.manifest.manifest.patches)
        unhealed = patched.unhealed(found.lost)
        found.healed = set(found.lost) - set(unhealed)
        for lost in _groups(unhealed):
            walk = DamageWalk(lost)
            points = {point.name: point for point in found.points}
            for step in self._steps(history):
                if step.change is None or step.name not in points:
                    continue
                walk.apply(step.change)
                if len(walk.blocks) and points[step.name].is_known:
                    _add_ranges(points[step.name], walk.blocks)
            found.uses |= {name: walk.uses(name) for name in lost}


def _told(place: PackPlace) -> tuple[PackRef, str, int]:
    # The point that an inline pack lies in does not say so; those that refer to it do.
    return replace(place.ref, holder="", offset=0), place.holder, place.offset


def _note_pack(found: VolumeCheck, check: PackCheck) -> None:
    ref = check.place.ref
    known = found.objects.get(ref.name)
    if known is None or not known.problem:
        found.objects[ref.name] = ObjectCheck(ref.name, ref.size, check.problem)
    if len(check.lost):
        found.lost[ref.name] = np.union1d(found.lost.get(ref.name, check.lost), check.lost)
        if check.identities is not None:
            found.identities[ref.name] = check.identities


def _groups(lost: dict[str, Slots]) -> Iterator[dict[str, Slots]]:
    # So many packs at a time that carrying their blocks along takes bounded memory.
    group: dict[str, Slots] = {}
    for name, slots in lost.items():
        if group and sum(map(len, group.values())) + len(slots) > _LOST_SLOTS_MAX:
            yield group
            group = {}
        group[name] = slots
    if group:
        yield group


def _add_ranges(point: PointCheck, blocks: U64) -> None:
    ranges = byte_ranges(blocks, block_size=point.block_size, size=point.size)
    point.damaged_bytes += sum(end - start for start, end in ranges)
    point.damaged = sorted([*point.damaged, *ranges])[:RANGES_MAX]
