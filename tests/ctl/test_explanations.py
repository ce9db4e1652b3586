"""Every state, error code and finding is explained, and nothing that is none."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from pathlib import Path
from typing import get_args

import pytest

import blocksnapctl
import blocksnapd
from blocksnapctl.explanations import CODES, FINDINGS, STATES, find, words
from blocksnapd.control.messages import VolumeState
from blocksnapd.errors import BlocksnapError

PROJECT = Path(blocksnapd.__file__).parent


def known_codes() -> set[str]:
    for package in (blocksnapd, blocksnapctl):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    found, left = set(), [BlocksnapError]
    while left:
        kind = left.pop()
        if kind.__module__.startswith("blocksnap"):  # other tests have some of their own
            found.add(kind.code)
        left += kind.__subclasses__()
    return found


def test_every_error_code_is_explained() -> None:
    found = known_codes()
    assert len(found) > 25
    assert set(CODES) == found | {"E-WAIT"}  # the one that has no class: the client's own


def test_every_state_is_explained() -> None:
    assert set(STATES) == {*get_args(VolumeState), "paused"}


def test_every_finding_is_explained() -> None:
    """Read from the sources: the first argument of each ``Finding(...)``."""
    found = {
        node.args[0].value
        for file in PROJECT.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", "") == "Finding"
        and node.args
        and isinstance(node.args[0], ast.Constant)
    }
    assert len(found) > 5
    assert set(FINDINGS) == found


@pytest.mark.parametrize("word", words())
def test_each_says_all_three(word: str) -> None:
    found = find(word)
    assert found is not None
    for text in found:
        assert text.endswith(".")
        assert "  " not in text


@pytest.mark.parametrize(
    ("word", "same"), [("repo-full", "E-REPO-FULL"), ("e-repo-full", "E-REPO-FULL"),
                       ("LATE", "late"), ("orphan", "ORPHAN")],
)  # fmt: skip
def test_a_word_may_be_short(word: str, same: str) -> None:
    assert find(word) == find(same) is not None


def test_what_is_none() -> None:
    assert find("vg0/home") is None
    assert find("") is None
