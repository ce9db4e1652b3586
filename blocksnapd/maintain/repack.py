"""Packs that are mostly dead, or small, become fewer: their living blocks move together. Edge.

The old packs stay until a collection condemns them, after the manifest told where their blocks are
now. With maintenance.key whole frames are copied as they are, sealed, and only frames without any
living block are left out; with restore.key frames are made anew of living blocks, at any level.

Law of conservation: every living block of what goes in is in what comes out, with its identity and
its origin, as read back from the place. Else nothing is told, and the new pack is a leftover.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from msgspec.structs import replace

from blocksnapd.errors import CancelledRunError, ChecksumError
from blocksnapd.maintain.repack_rules import Weighed, chosen
from blocksnapd.maintain.repack_writer import RepackWriter
from blocksnapd.maintain.revise import revise
from blocksnapd.model import U8
from blocksnapd.store.keys import RestoreKey
from blocksnapd.store.layers import PackPlace
from blocksnapd.store.manifest_format import Moved
from blocksnapd.store.names import repacked_name
from blocksnapd.store.pack_check import check_pack
from blocksnapd.store.pack_reader import PackReader
from blocksnapd.store.seal import Scope, damaged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from blocksnapd.maintain.mark import LiveSlots, Mark
    from blocksnapd.model import U64
    from blocksnapd.packing import Packing
    from blocksnapd.store.keys import MaintenanceKey
    from blocksnapd.store.manifest_format import LoadedManifest, Manifest
    from blocksnapd.store.manifests import Manifests
    from blocksnapd.store.objects import ObjectStore
    from blocksnapd.store.point_format import PackRef


_Bools = np.typing.NDArray[np.bool_]


class Slots(NamedTuple):
    """Blocks of a pack: their slots there, origins (pack names by number), slots at the origin."""

    here: U64
    names: tuple[str, ...]
    origins: U64
    slots: U64


@dataclass(frozen=True, slots=True)
class Repacked:
    """What a run did: packs read, their living blocks, packs written, bytes of each."""

    read: int = 0
    blocks: int = 0
    written: int = 0
    read_size: int = 0
    written_size: int = 0


def slots_of(reader: PackReader) -> Slots:
    """Return all blocks of a pack, repacked or not."""
    origins = reader.index.origins
    if origins is None:
        every = np.arange(reader.index.slots, dtype=np.uint64)
        return Slots(every, (reader.place.ref.name,), np.zeros_like(every), every)
    names = tuple(source.name for source in origins.sources)
    return Slots(origins.here, names, origins.origins, origins.slots)


def living(slots: Slots, live: LiveSlots, moved_here: frozenset[str]) -> _Bools:
    """Return which of ``slots`` live here; ``moved_here``: origins that are read from this pack."""
    found = np.zeros(len(slots.here), dtype=np.bool_)
    for number, name in enumerate(slots.names):
        if name in live and name in moved_here:
            mine = slots.origins == np.uint64(number)
            found[mine] = live.slots(name)[slots.slots[mine].astype(np.intp)]
    return found


class _Made(NamedTuple):
    # A new pack, of how many old ones, and how many living blocks it has.
    ref: PackRef
    packs: int
    blocks: int


class Repacker:
    """Repacks one volume after it was marked.

    Args:
        store: where the volume is.
        key: restore.key to make frames anew, maintenance.key to copy them.
        manifests: reads and publishes manifests.
        loaded: the manifest that ``found`` was marked with.
        found: what lives.
        listed: names of the listed points: packs within these free nothing.
        now_us: the time.
        packing: how frames are made anew.
        cancelled: asked often whether to stop.
    """

    def __init__(
        self,
        store: ObjectStore,
        key: MaintenanceKey,
        manifests: Manifests,
        loaded: LoadedManifest,
        found: Mark,
        listed: Iterable[str],
        *,
        now_us: Callable[[], int],
        packing: Packing,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store, self._key, self._manifests, self._loaded = store, key, manifests, loaded
        self._live, self._listed = found.live, frozenset(listed)
        self._now_us, self._packing, self._cancelled = now_us, packing, cancelled
        self._held: dict[str, set[str]] = {}  # which origins are read from a repacked pack
        for one in loaded.manifest.moved:
            for ref in one.packs:
                self._held.setdefault(ref.name, set()).add(one.origin)

    def run(self, *, budget: int) -> Repacked:
        """Repack what is worth it, the deadest first, and publish where it is.

        Args:
            budget: bytes of packs to read at most.

        Raises:
            ChecksumError, RepositoryFormatError: a pack is damaged, or what was written is not
                what was read: nothing was published. StoreError: the place failed.
            CancelledRunError: ``cancelled`` said so; nothing was published.
        """
        packs = chosen(self._weigh(), budget=budget)
        into: dict[str, PackRef] = {}
        waiting, blocks = packs, 0
        while waiting:
            made = self._fill(waiting, len(into))
            into |= dict.fromkeys((one.place.ref.name for one in waiting[: made.packs]), made.ref)
            waiting, blocks = waiting[made.packs :], blocks + made.blocks
        if packs:
            self._publish(into)
        written = {ref.name: ref.size for ref in into.values()}
        read_size = sum(one.place.ref.size for one in packs)
        return Repacked(len(packs), blocks, len(written), read_size, sum(written.values()))

    def _fill(self, packs: Sequence[Weighed], number: int) -> _Made:
        """Make one pack of the first of ``packs``, put it and read it back."""
        writer, given = self._writer(number), list[tuple[Slots, U8]]()
        for weighed in packs:
            reader = PackReader(self._store, weighed.place, self._key)
            if not writer.has_room(reader):
                break
            given.append(self._copy(reader, writer))
        self._store.put(writer.name, writer.finish())
        self._check(writer.ref, given)
        return _Made(writer.ref, len(given), sum(len(slots.here) for slots, _ in given))

    def _weigh(self) -> list[Weighed]:
        places = self._places()
        found = []
        for place in places:
            name = place.ref.name
            if name not in self._held:
                blocks, count = place.ref.blocks, self._live.count(name)
                if 2 * count > blocks or isinstance(self._key, RestoreKey):
                    found.append(Weighed(place, count, blocks))
                    continue
            reader = PackReader(self._store, place, self._key)
            slots = slots_of(reader)
            which = self._living(name, slots)
            if not isinstance(self._key, RestoreKey):
                which = _in_frames(slots, which, reader.slots_per_frame)
            found.append(Weighed(place, int(which.sum()), len(slots.here)))
        return [one for one in found if one.live]

    def _places(self) -> list[PackPlace]:
        """Return where packs are that can be freed: not within listed points."""
        moved = self._loaded.manifest.moved
        origins = {one.origin for one in moved}
        refs = {ref.name: ref for one in moved for ref in one.packs}
        return [
            place for name, place in self._live.places.items()
            if name not in origins and place.holder not in self._listed and self._live.count(name)
        ] + [self._place(ref) for ref in refs.values()]  # fmt: skip

    def _place(self, ref: PackRef) -> PackPlace:
        other = next(iter(self._live.places.values()))
        return PackPlace(ref, other.volume_id, other.block_size, ref.name, 0)

    def _living(self, name: str, slots: Slots) -> _Bools:
        return living(slots, self._live, frozenset(self._held.get(name, {name})))

    def _writer(self, number: int) -> RepackWriter:
        volume_id = self._loaded.volume_id
        day = time.strftime("%Y%m%d", time.gmtime(self._now_us() / 1e6))
        name = repacked_name(volume_id, day, self._loaded.generation, number, secrets.token_hex(4))
        scope = Scope(self._key.source.repository_id, volume_id, name)
        return RepackWriter(scope, self._key, packing=self._packing)

    def _copy(self, reader: PackReader, writer: RepackWriter) -> tuple[Slots, U8]:
        """Return what lives in a pack, and its identities, once the writer has it."""
        if self._cancelled():
            raise CancelledRunError("repacking was cancelled")
        slots = slots_of(reader)
        name = reader.place.ref.name
        if not len(reader.index.frame_sums) and not isinstance(self._key, RestoreKey):
            # A writer that kept no sums: only the digest of the whole tells damage.
            checked = check_pack(self._store, reader.place, self._key, with_data=True)
            if checked.problem:
                raise damaged(f"{name} ({checked.problem}), which")
        which = self._living(name, slots)
        writer.add(reader, slots, which)
        mine = Slots(slots.here[which], slots.names, slots.origins[which], slots.slots[which])
        return mine, reader.identities(mine.here.astype(np.intp)).copy()

    def _check(self, ref: PackRef, given: Sequence[tuple[Slots, U8]]) -> None:
        """Read a new pack back; what was given to it must all be there."""
        checked = check_pack(self._store, self._place(ref), self._key, with_data=True)
        if checked.problem or checked.reader is None:
            raise _not_conserved(ref.name, checked.problem)
        found = slots_of(checked.reader)
        numbers = {name: at for at, name in enumerate(found.names)}
        keys = found.origins << np.uint64(32) | found.slots
        order = np.argsort(keys, kind="stable")
        keys, here = keys[order], found.here[order]
        for slots, identities in given:
            own = np.array([numbers.get(n, -1) for n in slots.names], dtype=np.int64)
            wanted = own.astype(np.uint64)[slots.origins.astype(np.intp)] << np.uint64(32)
            wanted |= slots.slots
            at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
            if (keys[at] != wanted).any():
                raise _not_conserved(ref.name, "blocks are missing")
            there = checked.reader.identities(here[at].astype(np.intp))
            if there.tobytes() != identities.tobytes():
                raise _not_conserved(ref.name, "blocks have another identity")

    def _publish(self, into: dict[str, PackRef]) -> None:
        taken = {one.origin: one.packs for one in self._loaded.manifest.moved}
        held = {name: self._held.get(name, {name}) for name in into}
        origins = set[str]().union(*held.values())

        def change(newest: LoadedManifest) -> Manifest:
            moved = {one.origin: one.packs for one in newest.manifest.moved}
            if any(moved.get(one, ()) != taken.get(one, ()) for one in origins):
                return newest.manifest  # somebody else moved them meanwhile: ours are leftovers
            for name, ref in into.items():
                for origin in held[name]:
                    kept = tuple(one for one in moved.get(origin, ()) if one.name != name)
                    moved[origin] = kept if ref in kept else (*kept, ref)
            told = tuple(Moved(origin, moved[origin]) for origin in sorted(moved))
            return replace(newest.manifest, moved=told)

        revise(self._manifests, self._loaded.volume_id, change, now_us=self._now_us)


def _in_frames(slots: Slots, which: _Bools, each: int) -> _Bools:
    # What stays with ``which`` where only whole frames can go.
    frames = slots.here // np.uint64(each)
    return np.isin(frames, frames[which])


def _not_conserved(name: str, why: str) -> ChecksumError:
    return ChecksumError(
        f"{name}, just written, is not what it was made of: {why}",
        effect="It is not used; the packs it was made of stay.",
        hint="Suspect this machine's memory or the disk; if it happens again, report it.",
    )
