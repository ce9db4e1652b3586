"""Every metric of the table is moved by a method that something calls: none is for show."""

from __future__ import annotations

import ast
from pathlib import Path

from blocksnapd.metric_table import TABLE

CODE = Path(__file__).parents[1] / "blocksnapd"


def moved_by(path: Path) -> dict[str, set[str]]:
    """Return the strings in each public method of ``Metrics``, those of its making included."""
    (found,) = (
        node for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef) and node.name == "Metrics"
    )  # fmt: skip
    return {
        method.name: {
            node.value for node in ast.walk(method)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        for method in found.body
        if isinstance(method, ast.FunctionDef)
        and (method.name == "__init__" or not method.name.startswith("_"))
    }  # fmt: skip


def asked_of_metrics(code: str) -> set[str]:
    """Return what is taken of anything called ``metrics``: a call, or a method handed on."""
    return {
        node.attr for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Attribute)
        and (ast.unparse(node.value).rpartition(".")[2]).strip("_") == "metrics"
    }  # fmt: skip


def test_each_metric_has_a_method_that_moves_it() -> None:
    strings = set().union(*moved_by(CODE / "metrics.py").values())
    assert {row.name for row in TABLE} - strings == set()


def test_each_method_is_called() -> None:
    called = set[str]()
    for path in CODE.rglob("*.py"):
        if path.name != "metrics.py":
            called |= asked_of_metrics(path.read_text())
    assert moved_by(CODE / "metrics.py").keys() - {"__init__"} - called == set()


def test_one_that_nobody_calls_would_be_noticed() -> None:
    assert asked_of_metrics("self._metrics.cow(1)\ntask(metrics.loop_lag)\nother.phase()") == {
        "cow", "loop_lag",
    }  # fmt: skip
