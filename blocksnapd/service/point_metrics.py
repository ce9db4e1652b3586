"""A volume's catalogue → the metrics of its points."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocksnapd.control.messages import parse_time

if TYPE_CHECKING:
    from blocksnapd.metrics import Metrics
    from blocksnapd.service.catalogue import Catalogue


def tell_points(metrics: Metrics, volume: str, target: str, catalogue: Catalogue) -> None:
    """Tell how many points there are, how many of them are held, and how old the oldest is."""
    points = catalogue.points()
    oldest = parse_time(points[0]["time"]).timestamp() if points else None
    metrics.points(volume, target, len(points))
    held = sum("held" in point for point in points)
    metrics.points_known(volume, target, held=held, oldest=oldest)
