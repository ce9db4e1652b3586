"""What Prometheus is told of the points that a catalogue holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from blocksnapd.maintain.prune import Ledger
from blocksnapd.metrics import Metrics
from blocksnapd.service.catalogue import Catalogue, Marks
from blocksnapd.service.point_metrics import tell_points
from blocksnapd.store.manifest_format import Hold, LoadedManifest, Manifest, PointEntry
from tests.service.test_catalogue import FACTS, point

if TYPE_CHECKING:
    from pathlib import Path

WHERE = {"volume": "vg0/home", "target": "near"}


def entry(seq: int) -> PointEntry:
    return PointEntry(seq, f"p{seq:016x}", 0, 0, "delta", "tracked", "", 0, 0, 0)


async def test_points_held_and_the_oldest(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    metrics, catalogue = Metrics(registry), Catalogue(str(tmp_path), "vg0/home", "near")

    def told(name: str) -> float | None:
        tell_points(metrics, *WHERE.values(), catalogue)
        return registry.get_sample_value(f"blocksnap_{name}", WHERE)

    assert [told(n) for n in ("points", "points_held", "oldest_point_timestamp_seconds")] == [
        0, 0, None,
    ]  # fmt: skip
    for seq in (1, 2, 3):
        catalogue.add(point(seq))
    assert told("points") == 3
    oldest = told("oldest_point_timestamp_seconds")
    assert oldest is not None
    assert abs(oldest - FACTS.time.timestamp()) < 0.001
    manifest = Manifest(points=tuple(map(entry, (1, 2, 3))), holds=(Hold(2, 1), Hold(3, 1, 5)))
    ledger = Ledger(LoadedManifest("v1", 1, "", 0, manifest), manifest.points)
    catalogue.mark(Marks(ledger, 10))
    assert told("points_held") == 1  # the other hold is over
    await catalogue.load([], lambda _: None)
    assert told("oldest_point_timestamp_seconds") is None
