"""Asking for files over the control socket: what is refused, what comes back, part by part."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.control import requests
from blocksnapd.errors import UsageError
from tests.control.serving import serving


def test_a_copy_needs_a_place_to_copy_from_and_to() -> None:
    wanted = {"kind": "copy", "point": "p1", "path": "/etc%FF", "to": "/tmp/x", "part": 2}
    assert requests.parse_run_request(json.dumps(wanted).encode()) == wanted
    for key, value in (("path", "etc"), ("to", "x"), ("part", 0), ("part", 10_000), ("path", None),
                       ("volume", "v")):  # fmt: skip
        with pytest.raises(UsageError):
            requests.parse_run_request(json.dumps(wanted | {key: value}).encode())


@given(st.dictionaries(st.sampled_from(["path", "part", "long", "recursive"]), st.text()))
def test_any_query_is_one_or_a_usage_error(query: dict[str, str]) -> None:
    with contextlib.suppress(UsageError):
        found = requests.parse_files(query)
        assert found.get("path", "/").startswith("/")
        assert 0 <= found.get("part", 1) < 10_000


async def test_parts_are_lines() -> None:
    async with serving() as served:
        served.operations.parts = [{"directory": "/", "entries": []}, {"note": "ende ☃"}]
        at = "/v1/points/latest:vg0%2Fhome/files?path=/x%2520y&part=2&long=1"
        async with served.http.get(f"http://x{at}") as reply:
            lines = [json.loads(line) for line in (await reply.text()).splitlines()]
        assert lines == served.operations.parts
        assert served.operations.queries == [
            {"recursive": False, "long": True, "path": "/x%20y", "part": 2}
        ]
        status, body = await served.get("/v1/points/nothing/files")
        assert (status, body["code"]) == (404, "E-NOT-FOUND")
        assert (await served.get("/v1/points/nothing/files?part=x"))[0] == 400
