"""A volume whose every image is remembered, and the maintenance that merges its layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from msgspec.structs import replace

from blocksnapd.maintain.merge import Merges, merge_due
from blocksnapd.store.keys import MaintenanceKey
from blocksnapd.store.listing import list_points
from blocksnapd.store.manifests import Manifests
from blocksnapd.store.point_reader import PointReader
from blocksnapd.store.span_set import SpanSet
from tests.store.support import BLOCK, VOLUME, Lab

if TYPE_CHECKING:
    from blocksnapd.store.manifest_format import LayerRef, LoadedManifest, PointEntry


class MergedLab(Lab):
    """A ``Lab`` with the key of maintenance: it reads no content."""

    @property
    def key(self) -> MaintenanceKey:
        return MaintenanceKey(self.keys.source, self.keys.metadata_private)

    @property
    def manifests(self) -> Manifests:
        return Manifests(self.store, self.key)

    def points_reader(self) -> PointReader:
        return PointReader(self.store, self.keys.source, self.key)

    def look(self) -> tuple[LoadedManifest, tuple[PointEntry, ...]]:
        """Return the newest manifest, and the points that are listed now."""
        loaded = self.manifests.newest(VOLUME)
        return loaded, list_points(self.store, self.points_reader(), loaded).points

    def spans(self) -> SpanSet:
        loaded, points = self.look()
        spans = SpanSet(self.store, self.points_reader(), loaded)
        spans.know(points)
        return spans

    def maintain(self, *, budget: int = 1 << 30, **more: object) -> Merges:
        """Merge what is due and publish it."""
        loaded, points = self.look()
        done = merge_due(self.store, self.key, loaded, points, budget=budget, **more)
        manifest = replace(loaded.manifest, points=points, layers=done.layers)
        self.manifests.publish(loaded, manifest, time_us=0)
        return done

    def expire(self, seqs: set[int]) -> None:
        """Drop points from the list; their objects stay."""
        loaded, points = self.look()
        kept = tuple(point for point in points if point.seq not in seqs)
        self.manifests.publish(loaded, replace(loaded.manifest, points=kept), time_us=0)
        self.kept = [(point, image) for point, image in self.kept if point.seq not in seqs]

    def layers(self) -> tuple[LayerRef, ...]:
        return self.manifests.newest(VOLUME).manifest.layers

    def live(self, rng: np.random.Generator, *, full: bool = False, resize: bool = True) -> None:
        """Commit one more point of random changes."""
        if resize and rng.random() < 0.2:
            old = self.blocks
            self.resize(int(rng.integers(1, 60 * BLOCK)))
            edge = [min(old, self.blocks) - 1, self.blocks - 1]
        else:
            edge = []
        count = int(rng.integers(0, 9))
        written = self.write(rng.integers(0, self.blocks, count))
        zeroed = self.zero(rng.integers(0, self.blocks, count // 3))
        number = self.kept[-1][0].seq + 1
        changed = None if full else np.unique([*written, *zeroed, *edge])
        self.commit(changed, number=number)
