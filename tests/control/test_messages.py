"""The few functions beside the shapes."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd import errors
from blocksnapd.control.messages import (
    failed_exit_code,
    format_time,
    looks_like_point,
    parse_time,
    problem,
)


@given(st.integers(0, 4_000_000_000_000))
def test_times_come_back(milliseconds: int) -> None:
    text = format_time(milliseconds / 1000)
    wanted = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
    assert abs(parse_time(text) - wanted) <= timedelta(milliseconds=1)
    assert text.endswith("Z")


def test_a_time_without_zone_is_refused() -> None:
    assert format_time(0) == "1970-01-01T00:00:00.000Z"
    with pytest.raises(ValueError, match="no time zone"):
        parse_time("2026-11-22T14:05:00")


def test_a_problem_carries_what_the_error_says() -> None:
    error = errors.StoreFullError("no room", effect="Not committed.", hint="Make room.")
    assert problem(error) == {
        "type": "error", "code": "E-REPO-FULL", "message": "no room", "effect": "Not committed.",
        "hint": "Make room.", "exit_code": 1, "retryable": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("found", "wanted"),
    [(None, 1), ({}, 1), ({"exit_code": 14}, 14), ({"exit_code": 0}, 1), ({"exit_code": 999}, 1)],
)
def test_exit_code_of_a_failure_is_never_0(found: dict[str, int] | None, wanted: int) -> None:
    assert failed_exit_code(found) == wanted  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("p12ab", True), ("latest:vg0/home", True), ("vg0/home@latest", True), ("vg0/home", False),
     ("/srv/disk.img", False)],
)  # fmt: skip
def test_volume_or_point(text: str, wanted: bool) -> None:
    assert looks_like_point(text) is wanted


def test_importing_it_is_light() -> None:
    code = "import sys, blocksnapd.control.messages; print(*sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()
    for heavy in ("numpy", "aiohttp", "pydantic", "asyncio", "dataclasses"):
        assert heavy not in loaded
