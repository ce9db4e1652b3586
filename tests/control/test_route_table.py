"""The table of paths: what aiohttp is to match."""

from __future__ import annotations

import re

from blocksnapd.control.route_table import ROUTES


def test_names_with_slashes_are_matched_whole() -> None:
    patterns = {route.path: route.pattern for route in ROUTES}
    assert patterns["/v1/volumes/{volume}/pause"] == "/v1/volumes/{volume:.+}/pause"
    point = patterns["/v1/points/{selector}"].removeprefix("/v1/points/{selector:")[:-1]
    for name in ("p1", "latest:vg0/home", "vg0%2Fpause", "pause", "a/b/c"):
        assert re.fullmatch(point, name), name
    assert not re.fullmatch(point, "vg0/home/hold")
    assert patterns["/v1/runs/{run}"] == "/v1/runs/{run}"


def test_what_begins_with_a_selector_stands_before_what_is_one() -> None:
    """The first that matches answers."""
    gets = [route.path for route in ROUTES if route.method == "GET"]
    assert gets.index("/v1/points/{selector}/files") < gets.index("/v1/points/{selector}")


def test_who_changes_something_says_with_post() -> None:
    assert {route.method for route in ROUTES} == {"GET", "POST"}
    assert all(route.body is None and route.status == 200
               for route in ROUTES if route.method == "GET")  # fmt: skip
