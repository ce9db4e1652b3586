"""Evidence of drills, as it was kept or sent: read back, or told to be none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.control.drill_messages import is_asked_for, read_drill
from blocksnapd.errors import FormatError

STEP = {"name": "fsck", "result": "success", "seconds": 1.5, "method": "m", "found": ["a"]}


def evidence(**changes: Any) -> dict[str, Any]:
    return {
        "schema": 1, "id": "d-0123abcd", "volume": "vg0/home", "target": "near", "point": "p1",
        "point_time": "2026-11-22T14:00:00.000Z", "host": "h", "version": "1",
        "started": "2026-11-23T01:00:00.000Z", "ended": "2026-11-23T01:10:00.000Z",
        "result": "success", "size": 1 << 40, "content_bytes": 5, "steps": [STEP], **changes,
    }  # fmt: skip


def test_it_reads_back_and_what_is_new_is_left_out() -> None:
    assert read_drill(json.dumps(evidence())) == evidence()
    assert read_drill(json.dumps(evidence(later="x"))) == evidence()


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "../../x"}, {"volume": ""}, {"volume": 7}, {"ended": "yesterday"},
        {"result": "splendid"}, {"size": -1}, {"size": 1.5}, {"steps": [STEP] * 17},
        {"steps": [{**STEP, "seconds": -1}]}, {"steps": [{**STEP, "seconds": float("nan")}]},
        {"steps": [{**STEP, "found": ["x" * 301]}]}, {"steps": [{**STEP, "name": "../x"}]},
        {"started": "2026-11-23T01:00:00"},
    ],
)  # fmt: skip
def test_what_is_none_is_told(changes: dict[str, Any]) -> None:
    with pytest.raises(FormatError, match="no evidence"):
        read_drill(json.dumps(evidence(**changes)))


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda t: json.dumps(t).encode()))
def test_noise_is_told(data: bytes) -> None:
    with pytest.raises(FormatError):
        read_drill(data)


def test_what_is_asked_for() -> None:
    ended = 1_795_396_200.0  # as the evidence has it
    found = evidence()
    assert is_asked_for(found, None, ended)
    assert is_asked_for(found, "vg0/home", 0)
    assert not is_asked_for(found, "vg0/mail", 0)
    assert not is_asked_for(found, None, ended + 1)
