"""Charts: each fact has its mark, and nothing is drawn of what is not known."""

from __future__ import annotations

import re
from datetime import UTC
from typing import Any

from blocksnapctl import charts
from blocksnapctl.charts import Clock
from blocksnapd.control.messages import format_time
from tests.ctl.example_page import findings

CLOCK = Clock(UTC)


def point(seq: int, at: float, **more: Any) -> dict[str, Any]:
    return {"seq": seq, "time": format_time(at), **more}


def kinds(drawn: str) -> list[str]:
    return re.findall(r'<(?:path|rect|line)[^>]* class="([^"]+)"', drawn)


def test_a_tooth_for_each_gap_and_a_red_one_where_it_was_too_long() -> None:
    points = [point(1, 0), point(2, 600), point(3, 3600), point(6, 4200), point(7, 4800)]
    drawn = charts.exposure(points, 900.0, 5000.0, CLOCK)
    # 3 → 6: what lay between has expired. The last tooth ends now.
    assert [k for k in kinds(drawn) if "tooth" in k] == ["tooth", "tooth late", "tooth", "tooth"]
    assert kinds(drawn).count("limit") == 1
    assert "limit" not in kinds(charts.exposure(points[:1], None, 5.0, CLOCK))


def test_bars_of_many_points_share_their_room() -> None:
    points = [point(n, 60.0 * n, changed_bytes=n << 20, stored_bytes=n) for n in range(1, 1000)]
    drawn = charts.sizes(points, CLOCK)
    assert kinds(drawn).count("changed") == kinds(drawn).count("stored") == 111
    assert "1970-01-01 00:09: 45.0 MiB changed" in drawn
    assert kinds(charts.sizes([point(1, 0.0)], CLOCK)).count("changed") == 1


def test_the_forecast_goes_on_as_it_went() -> None:
    use = {"size": 1000, "used": 250}
    drawn, full = charts.cow(use, 0.0, 100.0, 200.0, CLOCK)
    assert full == 400
    assert {"known", "forecast", "limit"} <= set(kinds(drawn))
    assert charts.cow({"size": 1000, "used": 0}, 0.0, 100.0, 200.0, CLOCK)[1] is None
    assert charts.cow(use, 100.0, 100.0, 100.0, CLOCK)[1] is None


def test_the_forecast_ends_where_it_is_full() -> None:
    """The next run is long after that: the line rises as it did before, and no slower."""
    drawn, full = charts.cow({"size": 1000, "used": 250}, 0.0, 100.0, 4000.0, CLOCK)
    assert full == 400
    ends = re.findall(r'd="M([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)" class="(?:known|forecast)"', drawn)
    rises = [(float(x2) - float(x1), float(y1) - float(y2)) for x1, y1, x2, y2 in ends]
    slopes = [height / width for width, height in rises]
    assert len(slopes) == 2
    assert abs(slopes[0] / slopes[1] - 1) < 0.02


def test_the_map_has_a_mark_for_each_change() -> None:
    found = findings().change_map
    assert found is not None
    drawn = kinds(charts.churn(found, CLOCK))
    changed = sum(bool(cell) for row in found["matrix"] for cell in row)
    assert sum(kind in {"h1", "h2", "h3", "h4", "h5"} for kind in drawn) == changed
    assert drawn.count("none") == 2
    assert drawn.count("h0") == len(found["cycles"]) - 2
