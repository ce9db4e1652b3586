"""Deleting what no listed point needs, in two runs that are far apart. Edge.

    first run    list, mark ─▶ publish what is condemned
    later run    list, mark again ─▶ delete what is still dead ─▶ publish that it is done

Writers may commit and this may die at any moment: ``collect_rules.py`` and its model tell why
nothing is lost, and the next run goes on. What cannot be read, listed or believed ends a run
before it deletes anything.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from msgspec.structs import replace

from blocksnapd.errors import (
    BusyError,
    CancelledRunError,
    FormatError,
    RefusedError,
    StoreMissingError,
)
from blocksnapd.maintain.collect_rules import (
    Patience,
    Pending,
    distrust,
    has_progress,
    has_waited,
    may_condemn,
    next_epoch,
    outlived,
    replaced_manifests,
    sweep,
)
from blocksnapd.maintain.garbage import Named, Packs, garbage, packs_in_use
from blocksnapd.maintain.mark import Mark, mark
from blocksnapd.maintain.revise import revise
from blocksnapd.store.collection_format import NAMES_MAX, Condemned, Done
from blocksnapd.store.collection_lists import CollectionLists, Published
from blocksnapd.store.listing import entry_name, list_points
from blocksnapd.store.manifests import Manifests
from blocksnapd.store.names import (
    condemned_name,
    done_name,
    layers_prefix,
    manifest_name,
    packs_prefix,
    parse_pack_name,
    points_prefix,
    volume_prefix,
)
from blocksnapd.store.point_reader import PointReader

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blocksnapd.store.keys import MaintenanceKey
    from blocksnapd.store.manifest_format import LoadedManifest, Manifest, PointEntry
    from blocksnapd.store.objects import ObjectStore

_KIND_MAX = NAMES_MAX // 8
# Fewer old manifests and lists than that are not worth a list of their own.
_RECORDS_MIN = 32


@dataclass(frozen=True, slots=True)
class Collected:
    """What a run did.

    Attributes:
        deleted: objects deleted.
        size: their bytes.
        spared: what was condemned and is needed again, or not known to be dead.
        condemned: objects on the list that was published.
        waits: why the last list was not swept, as a sentence; empty if it was, or there is none.
        lost: packs that points need and that are not there.
    """

    deleted: int = 0
    size: int = 0
    spared: tuple[str, ...] = ()
    condemned: int = 0
    waits: str = ""
    lost: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Marked:
    """What a run found to live: the manifest it left, names of the listed points, their mark."""

    loaded: LoadedManifest
    listed: tuple[str, ...]
    mark: Mark


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    # What was listed and marked; ``names`` are all objects under p/ as they were then.
    there: Named
    published: Published
    loaded: LoadedManifest
    points: Sequence[PointEntry]
    names: Sequence[str]
    mark: Mark
    packs: Packs
    garbage: Named
    newest_epoch: int


@dataclass(eq=False)
class Collector:
    """Collects one volume; made anew for each run.

    Args:
        store: where the volume is.
        key: opens metadata.
        volume_id: which.
        now_us: the time, for people; ages are the store's.
        patience: how long things are left alone.
        cancelled: asked often whether to stop.

    Attributes:
        marked: set by a run that went to its end; repacking goes on from it.
    """

    store: ObjectStore
    key: MaintenanceKey
    volume_id: str
    now_us: Callable[[], int]
    patience: Patience = field(default_factory=Patience)
    cancelled: Callable[[], bool] = lambda: False

    def __post_init__(self) -> None:
        self._manifests = Manifests(self.store, self.key)
        self._lists = CollectionLists(self.store, self.key.source, self.volume_id)
        self._reader = PointReader(self.store, self.key.source, self.key)
        self._quiet: bool | None = None
        self._has_asked = False
        self.marked: Marked | None = None

    def run(self) -> Collected:
        """Sweep the list that waits, if it may be, and publish the next one.

        Raises:
            RefusedError: what was listed is not to be believed, or something is damaged: nothing
                was deleted. FormatError, NotFoundError: a point or layer cannot be read: nothing
                was deleted. CancelledRunError: ``cancelled`` said so; the next run goes on.
            StoreError: the place failed; the next run goes on.
        """
        waiting = self._lists.published().open
        if waiting and self._is_too_early(waiting[-1]):
            return Collected(waits=f"what collection {waiting[-1]} condemned is left for readers")
        seen = self._see()
        if seen is not None and self._unlisted(seen):
            seen = self._see()  # a commit may have come between the listings; not twice
        if seen is None:
            return Collected()
        self._check(seen)
        open_epochs = seen.published.open
        done, waits, gone = Done("", "", 0, 0, 0), "", frozenset[str]()
        if open_epochs:
            waits = self._why_wait(open_epochs[-1], seen)
            if waits:
                return Collected(waits=waits, lost=seen.packs.lost)
            for epoch in open_epochs:
                done, gone = self._sweep(epoch, seen)
        made = self._condemn(seen, gone)
        listed = tuple(entry_name(self.volume_id, entry) for entry in seen.points)
        self.marked = Marked(self._note(seen, made), listed, seen.mark)
        return Collected(
            deleted=done.count, size=done.size, spared=done.spared,
            condemned=len(made.names) if made else 0, lost=seen.packs.lost,
        )  # fmt: skip

    def _see(self) -> _Seen | None:
        # Packs first: a point that is committed meanwhile makes its own live, never a leftover.
        packs = self.store.list_names(packs_prefix(self.volume_id))
        layers = self.store.list_names(layers_prefix(self.volume_id))
        published = self._lists.published()
        loaded = self._manifests.newest(self.volume_id)
        names = self.store.list_names(points_prefix(self.volume_id))
        listing = list_points(self.store, self._reader, loaded)
        points = listing.points
        if listing.missing:
            raise _refused([f"point {listing.missing[0]} is not there"])
        if not points:
            return None
        found = mark(self.store, self.key, loaded, points, cancelled=self.cancelled)
        in_use = packs_in_use(found.live, loaded.manifest, packs)
        listed = [entry_name(self.volume_id, entry) for entry in points]
        newest_epoch = self._reader.load_clear(listed[-1]).header.epoch
        there = Named(
            packs=tuple(packs), points=tuple(names), layers=tuple(layers),
            manifests=self._old_manifests(), collections=self._old_lists(published, newest_epoch),
        )  # fmt: skip
        dead = garbage(found, in_use, loaded.manifest, listed, there)
        return _Seen(
            there, published, loaded, points, names, found, in_use, dead, newest_epoch
        )  # fmt: skip

    def _old_manifests(self) -> tuple[str, ...]:
        generations = self._manifests.generations(self.volume_id)
        name = {one: manifest_name(self.volume_id, one) for one in generations}
        ages = {one: self._age(name[one]) for one in generations[:-1]}
        return tuple(name[one] for one in replaced_manifests(generations, ages))

    def _old_lists(self, published: Published, newest_epoch: int) -> tuple[str, ...]:
        old = outlived(published.lists, published.done, newest_epoch)
        proofs = outlived(published.done, published.done, newest_epoch)
        return (
            *(condemned_name(self.volume_id, epoch) for epoch in old),
            *(done_name(self.volume_id, epoch) for epoch in proofs if epoch in old
              or epoch not in published.lists),
        )  # fmt: skip

    def _check(self, seen: _Seen) -> None:
        problems = list(seen.mark.problems)
        problems += [f"{name} is there and was not listed" for name in self._unlisted(seen)]
        last, proof = self._last(seen.published)
        problems += distrust(
            seqs=[entry.seq for entry in seen.points],
            listed=[entry.seq for entry in seen.loaded.manifest.points],
            newest_seen=max(last.newest_seq if last else 0, proof.newest_seq if proof else 0),
            generation=seen.loaded.generation,
            generation_seen=last.generation if last else 0,
            packs=len(seen.there.packs),
            packs_before=seen.loaded.manifest.pack_count - self._swept(seen),
            lost=len(seen.packs.lost), named=len(seen.packs.used),
        )  # fmt: skip
        if problems:
            raise _refused(problems)

    def _unlisted(self, seen: _Seen) -> list[str]:
        return [name for name in seen.packs.lost if self.store.exists(name)]

    def _swept(self, seen: _Seen) -> int:
        # How many packs a run may have deleted that died before the manifest had their number.
        gone = set[str]()
        for epoch in seen.published.lists:
            if epoch >= seen.loaded.manifest.epoch:
                with suppress(FormatError, StoreMissingError):
                    gone.update(self._lists.condemned(epoch).packs)
        return len(gone.difference(seen.there.packs))

    def _last(self, published: Published) -> tuple[Condemned | None, Done | None]:
        try:
            last = self._lists.condemned(published.lists[-1]) if published.lists else None
            proof = self._lists.done(published.done[-1]) if published.done else None
        except FormatError:
            return None, None  # what it said is told by the others
        return last, proof

    def _is_too_early(self, epoch: int) -> bool:
        pending = Pending(epoch, self._age(condemned_name(self.volume_id, epoch)), 0, 0.0, None)
        return not has_waited(pending, self.patience)

    def _why_wait(self, epoch: int, seen: _Seen) -> str:
        newest = entry_name(self.volume_id, seen.points[-1])
        is_quiet = self._is_quiet(seen) if seen.newest_epoch < epoch else None
        age_s = self._age(condemned_name(self.volume_id, epoch))
        pending = Pending(epoch, age_s, seen.newest_epoch, self._age(newest), is_quiet)
        if self._is_too_early(epoch) or not has_progress(pending, self.patience):
            return f"a writer may be at work that has not seen collection {epoch}"
        return ""

    def _is_quiet(self, seen: _Seen) -> bool | None:
        """Return whether no session is going on, and none committed since the points were listed.

        None where no lock can tell: writers on other hosts have one of their own. The lock is held
        for no longer than it takes to get it.
        """
        if not self._has_asked:
            self._has_asked = True
            try:
                lock = self.store.lock(volume_prefix(self.volume_id))
                lock.release()
                names = self.store.list_names(points_prefix(self.volume_id))
                self._quiet = names == list(seen.names) if lock.is_everywhere else None
            except BusyError:
                self._quiet = False
        return self._quiet

    def _sweep(self, epoch: int, seen: _Seen) -> tuple[Done, frozenset[str]]:
        try:
            names = self._lists.condemned(epoch).names
        except FormatError:
            names = ()  # what nobody can read condemns nothing
        there = seen.there.all
        doomed, spared = sweep((n for n in names if n in there), seen.garbage.all)
        size = 0
        for name in doomed:
            if self.cancelled():
                raise CancelledRunError("collecting was cancelled")
            size += self._delete(name)
        done = Done(
            self.key.source.repository_id, self.volume_id, epoch, self.now_us(),
            seen.points[-1].seq, count=len(doomed), size=size, spared=tuple(spared),
        )  # fmt: skip
        self._lists.put(done)
        return done, frozenset(doomed)

    def _delete(self, name: str) -> int:
        try:
            size = self.store.size(name)
        except StoreMissingError:
            return 0
        self.store.delete(name)
        return size

    def _condemn(self, seen: _Seen, gone: frozenset[str]) -> Condemned | None:
        wanted = seen.garbage.only(lambda name: name not in gone and self._may_condemn(name, seen))
        records = len(wanted.manifests) + len(wanted.collections)
        if len(wanted.all) == records < _RECORDS_MIN:
            return None
        seen_epoch = seen.published.seen
        made = Condemned(
            self.key.source.repository_id, self.volume_id,
            next_epoch(seen_epoch, seen.loaded.manifest.epoch, seen.newest_epoch),
            self.now_us(), seen.loaded.generation, seen.points[-1].seq,
            packs=wanted.packs[:_KIND_MAX], replaced=wanted.replaced[:_KIND_MAX],
            points=wanted.points[:_KIND_MAX], layers=wanted.layers[:_KIND_MAX],
            manifests=wanted.manifests[:_KIND_MAX], collections=wanted.collections[:_KIND_MAX],
        )  # fmt: skip
        self._lists.put(made)
        return made

    def _may_condemn(self, name: str, seen: _Seen) -> bool:
        age_s = self._age(name)
        if may_condemn(age_s, is_locked=None, patience=self.patience):
            return True
        if not may_condemn(age_s, is_locked=True, patience=self.patience):
            return False
        is_pack = name in seen.garbage.packs
        if is_pack and not parse_pack_name(name).session.startswith("p"):
            return False  # a repacking is no writer's session: its lock tells nothing of it
        return not is_pack or self._is_quiet(seen) is True

    def _age(self, name: str) -> float:
        try:
            return self.store.age(name)
        except StoreMissingError:
            return 0.0

    def _note(self, seen: _Seen, made: Condemned | None) -> LoadedManifest:
        sizes = {ref.name: ref.size for one in seen.loaded.manifest.moved for ref in one.packs}
        sizes |= {name: place.ref.size for name, place in seen.mark.live.places.items()}
        size = sum(sizes[name] for name in seen.packs.used)
        live = {n for n in seen.mark.live.places if seen.mark.live.count(n)}

        def change(newest: LoadedManifest) -> Manifest:
            manifest = newest.manifest
            return replace(
                manifest,
                epoch=max(manifest.epoch, made.epoch if made else 0),
                pack_count=len(seen.packs.used), pack_bytes=size, collected_us=self.now_us(),
                moved=tuple(
                    one for one in manifest.moved
                    if one.origin in live or one not in seen.loaded.manifest.moved
                ),
            )  # fmt: skip

        return revise(self._manifests, self.volume_id, change, now_us=self.now_us)


def _refused(problems: Sequence[str]) -> RefusedError:
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return RefusedError(
        f"nothing is collected: {problems[0]}{more}",
        effect="Nothing was deleted; all points are as they were.",
        hint="Run verify to learn what is missing or damaged; it is tried again next time.",
    )
