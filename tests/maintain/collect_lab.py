"""A volume that is pruned and collected, under a clock that is turned by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from blocksnapd.maintain.collect import Collected, Collector
from blocksnapd.maintain.merge import merge_due
from blocksnapd.maintain.repack import Repacked, Repacker
from blocksnapd.packing import SMALL
from blocksnapd.store.collection_lists import CollectionLists
from blocksnapd.store.listing import entry_name
from blocksnapd.store.names import packs_prefix, points_prefix
from tests.fakes.memory_objects import MemoryObjects
from tests.maintain.merged_lab import MergedLab
from tests.store.support import VOLUME

if TYPE_CHECKING:
    from blocksnapd.store.objects import ObjectStore

DAY = 86400.0
NOISE = 320  # blocks of noise that do not fit into a point


class CollectLab(MergedLab):
    """A ``MergedLab`` in memory; ``now`` is the store's time, in seconds."""

    def __init__(self, **more: object) -> None:
        self.now = 1.0
        super().__init__(MemoryObjects(clock=lambda: self.now), **more)

    def pass_days(self, days: float) -> None:
        self.now += days * DAY

    def forget(self, seqs: set[int]) -> None:
        """Let points expire, with layers in their place."""
        loaded, points = self.look()
        kept = tuple(p for p in points if p.seq not in seqs)
        self.manifests.publish(loaded, replace(loaded.manifest, points=points), time_us=0)
        loaded, _ = self.look()
        done = merge_due(self.store, self.key, loaded, kept, budget=1 << 30)
        manifest = replace(loaded.manifest, points=kept, layers=done.layers)
        self.manifests.publish(loaded, manifest, time_us=0)
        self.kept = [(point, image) for point, image in self.kept if point.seq not in seqs]

    def collector(self, store: ObjectStore | None = None, **more: object) -> Collector:
        return Collector(store or self.store, self.key, VOLUME, lambda: int(self.now * 1e6), **more)

    def collect(self, **more: object) -> Collected:
        return self.collector(**more).run()

    def collect_all(self) -> Collected:
        """Publish a list, let its time pass, and sweep it."""
        self.pass_days(10)
        self.collect()
        self.pass_days(2)
        return self.collect()

    def repack(self, *, with_data: bool, budget: int = 1 << 40) -> Repacked:
        """Mark, and repack with restore.key or with maintenance.key; collects on the way."""
        collector = self.collector()
        collector.run()
        marked = collector.marked
        assert marked is not None
        key = self.keys if with_data else self.key
        return Repacker(
            self.store, key, self.manifests, marked.loaded, marked.mark, marked.listed,
            now_us=lambda: int(self.now * 1e6), packing=SMALL,
        ).run(budget=budget)  # fmt: skip

    def packs(self) -> list[str]:
        return self.store.list_names(packs_prefix(VOLUME))

    def point_names(self) -> list[str]:
        return self.store.list_names(points_prefix(VOLUME))

    def listed(self) -> list[str]:
        return [entry_name(VOLUME, entry) for entry in self.look()[1]]

    @property
    def lists(self) -> CollectionLists:
        return CollectionLists(self.store, self.keys.source, VOLUME)

    def large(self, at: int = 0) -> None:
        """Commit a point with a pack of its own."""
        number = self.kept[-1][0].seq + 1 if self.kept else 1
        changed = self.write(range(at, at + NOISE), noise=True)
        self.commit(changed if self.kept else None, number=number)
