"""The table of metrics: names by Prometheus' rules, and which series exist from the start."""

from __future__ import annotations

from blocksnapd.metric_table import RESULTS, TABLE, VOLUME, Row


def test_the_table_follows_the_naming_rules() -> None:
    for row in TABLE:
        assert row.name.endswith("_total") == (row.kind == "counter"), row
        assert row.text.endswith(".")
        assert not row.name.startswith("blocksnap")
        assert "age" not in row.name.split("_"), row
        assert (row.buckets != ()) == (row.kind == "histogram"), row
        assert list(row.buckets) == sorted(set(row.buckets)), row
    assert len({row.name for row in TABLE}) == len(TABLE)


def test_a_series_starts_once_all_its_labels_are_known() -> None:
    known = {"volume": ("a", "b"), "target": ("t",)}
    runs = next(row for row in TABLE if row.name == "runs_total")
    assert set(runs.at_start(known)) == {(v, "t", "cycle", r) for v in "ab" for r in RESULTS}
    assert list(runs.at_start({"volume": ("a",)})) == []
    by_code = next(row for row in TABLE if row.name == "run_failures_total")
    assert list(by_code.at_start(known)) == []


def test_a_gauge_starts_only_where_zero_is_true() -> None:
    known = {"volume": ("a",)}
    assert list(Row("x", "gauge", VOLUME, ".", zero=True).at_start(known)) == [("a",)]
    assert list(Row("x", "gauge", VOLUME, ".").at_start(known)) == []
