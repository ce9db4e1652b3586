"""What of a damaged image can still be given: which blocks are lost, and the rest. Edge (threads).

``find_damage`` reads every pack that an image needs and returns the blocks that nobody can restore;
where a part of the map itself cannot be read, all blocks it would tell of count as lost. A
``LeftOut`` is a map without some blocks: over it an image gives the others, and zeros for these.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.blocks import runs_of
from blocksnapd.errors import FormatError, NotFoundError, StoreError
from blocksnapd.store.pack_check import check_pack
from blocksnapd.store.pieces import by_pack
from blocksnapd.store.redirect import MapOver
from blocksnapd.store.runs import SLOT_MASK, Runs, expand, join, split

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Mapping, Sequence

    from blocksnapd.store.keys import RestoreKey
    from blocksnapd.store.layers import PackPlace
    from blocksnapd.store.objects import ObjectStore
    from blocksnapd.store.pack_check import Slots
    from blocksnapd.store.redirect import ContentMap

PROBLEMS_MAX = 100
_UNREADABLE = (FormatError, StoreError, NotFoundError)


@dataclass(slots=True, eq=False)
class Damage:
    """The blocks of one image that are lost.

    Attributes:
        lost: runs of blocks, ascending and disjoint; their locations mean nothing.
        unmapped: those of them of which even the map cannot be read: they may have been zero.
        slots: name of a pack → its damaged slots, ascending.
        problems: what is wrong, a sentence each, at most ``PROBLEMS_MAX``.
    """

    lost: Runs = field(default_factory=Runs.empty)
    unmapped: Runs = field(default_factory=Runs.empty)
    slots: dict[str, Slots] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return len(self.lost) > 0

    def note(self, problem: str) -> None:
        """Remember what is wrong, if there is room."""
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(problem)


def find_damage(
    content: ContentMap,
    blocks: int,
    store: ObjectStore,
    key: RestoreKey,
    progress: Callable[[int, int], None],
) -> Damage:
    """Return what of the image over ``content`` is lost. Reads every pack it needs, once.

    Memory: a window of the map, the names of the packs, and the runs of lost blocks. A place that
    does not answer looks like one whose packs are gone: make sure that it is there.

    Args:
        content: the image's map.
        blocks: how many blocks it has.
        store: what holds the packs.
        key: what opens them.
        progress: told (blocks looked at, all with content); may raise, to stop.
    """
    damage, lost, unmapped = Damage(), list[Runs](), list[Runs]()
    total = _count(content)
    seen: set[str] = set()
    done = 0
    with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="salvage") as workers:
        for first, end in content.windows():
            try:
                runs = content.content(first, end)
            except _UNREADABLE as error:
                damage.note(f"blocks {first} to {end}: {error.message}")
                unmapped.append(_run(first, end))
                continue
            parts = [(content.places[pack], part) for pack, part in by_pack(runs)]
            for place, count in _checked(parts, seen, damage, store, key, workers):
                seen.add(place.ref.name)
                done += count
                progress(done, total)
            lost += [_taken(part, damage.slots, place) for place, part in parts]
    damage.unmapped = join(unmapped).cut(0, blocks)
    damage.lost = _merged([*unmapped, *lost]).cut(0, blocks)
    return damage


def spoils(content: ContentMap, slots: Mapping[str, Slots]) -> bool:
    """Return whether the image over ``content`` needs one of these slots of packs.

    Raises:
        ChecksumError, RepositoryFormatError, NotFoundError, StoreError: its map can't be read.
    """
    return any(len(part) for part in _spoiled(content, slots))


def spoiled(content: ContentMap, slots: Mapping[str, Slots]) -> Runs:
    """Return the blocks of the image over ``content`` that lie in these slots; as ``spoils``."""
    return _merged(list(_spoiled(content, slots)))


def packs_of(content: ContentMap) -> set[str]:
    """Return the names of the packs that the image over ``content`` needs; raises as ``spoils``."""
    return {
        content.places[pack].ref.name
        for first, end in content.windows()
        for pack, _ in by_pack(content.content(first, end))
    }


class LeftOut(MapOver):
    """A ``ContentMap`` without some blocks, which read as zero. As thread-safe as ``under``.

    Args:
        under: the map.
        out: the blocks left out: runs, ascending and disjoint.
        unmapped: blocks that ``under`` cannot tell of and is not asked for; likewise.
    """

    def __init__(self, under: ContentMap, out: Runs, unmapped: Runs | None = None) -> None:
        super().__init__(under)
        self._out = out
        self._unmapped = Runs.empty() if unmapped is None else unmapped

    @property
    def places(self) -> Sequence[PackPlace]:
        """Where the packs are that were met so far."""
        return self._under.places

    def content(self, first: int, end: int) -> Runs:
        """Return where the content of these blocks lies; raises as that of ``under``."""
        found, at = [], first
        for low, high in _spans(self._unmapped.cut(first, end)):
            if at < low:
                found.append(self._under.content(at, low))
            at = high
        if at < end:
            found.append(self._under.content(at, end))
        return split(join(found), self._out.cut(first, end))[0]


def _checked(
    parts: list[tuple[PackPlace, Runs]], seen: Container[str], damage: Damage,
    store: ObjectStore, key: RestoreKey, workers: ThreadPoolExecutor,
) -> Iterator[tuple[PackPlace, int]]:  # fmt: skip
    """Yield each pack once it was looked at, with how many blocks are wanted of it."""
    new = {place.ref.name: place for place, _ in parts if place.ref.name not in seen}
    checks = {n: workers.submit(_check, store, place, key) for n, place in new.items()}
    try:
        for place, part in parts:
            check = checks.pop(place.ref.name, None)
            if check is not None:
                slots, problem = check.result()
                if len(slots):
                    damage.slots[place.ref.name] = slots
                    damage.note(f"{place.ref.name}: {problem}")
            yield place, part.blocks
    finally:
        for check in checks.values():
            check.cancel()


def _check(store: ObjectStore, place: PackPlace, key: RestoreKey) -> tuple[Slots, str]:
    # Only what is wrong: a whole check holds the pack's identities.
    found = check_pack(store, place, key, with_data=True)
    return found.lost, found.problem


def _count(content: ContentMap) -> int:
    total = 0
    for first, end in content.windows():
        try:
            total += content.content(first, end).blocks
        except _UNREADABLE:
            continue  # told when it is asked for again
    return total


def _spoiled(content: ContentMap, slots: Mapping[str, Slots]) -> Iterator[Runs]:
    for first, end in content.windows():
        for pack, part in by_pack(content.content(first, end)):
            yield _taken(part, slots, content.places[pack])


def _taken(part: Runs, slots: Mapping[str, Slots], place: PackPlace) -> Runs:
    """Return the blocks of ``part`` that lie in damaged slots of the pack at ``place``."""
    bad = slots.get(place.ref.name)
    if bad is None:
        return Runs.empty()
    blocks, locations = expand(part)
    hit = np.isin((locations & SLOT_MASK).astype(np.intp), bad)
    starts, lengths = runs_of(np.sort(blocks[hit]))
    return Runs.zeros(starts, lengths)


def _merged(parts: list[Runs]) -> Runs:
    """Return disjoint runs of blocks in any order as one set, neighbours joined."""
    every = join([part for part in parts if len(part)])
    every = every.take(np.argsort(every.starts, kind="stable"))
    apart = every.starts[1:] != every.ends[:-1]
    heads = np.concatenate([np.ones(min(1, len(every)), np.bool_), apart])
    tails = np.concatenate([apart, np.ones(min(1, len(every)), np.bool_)])
    return Runs.zeros(every.starts[heads], every.ends[tails] - every.starts[heads])


def _run(first: int, end: int) -> Runs:
    return Runs.zeros(np.array([first], np.uint64), np.array([end - first], np.uint64))


def _spans(runs: Runs) -> Iterator[tuple[int, int]]:
    return zip(runs.starts.tolist(), runs.ends.tolist(), strict=True)
