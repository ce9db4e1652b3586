"""What is asked about pausing and about restores in place: a request, or a usage error."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from blocksnapd.control import requests
from blocksnapd.errors import UsageError

if TYPE_CHECKING:
    from blocksnapd.control.pause_messages import InPlaceRequest, PauseRequest, ResumeRequest

PAUSE: PauseRequest = {"seconds": 7200.0, "reason": "a large import"}
RESUME: ResumeRequest = {"force": True}
BEGIN: InPlaceRequest = {"point": "p1"}
NOTE: InPlaceRequest = {"id": "z1", "safety": "p2", "writing": True}
END: InPlaceRequest = {"id": "z1", "done": True}


def test_good_ones_come_through_unchanged() -> None:
    assert requests.parse_pause(json.dumps(PAUSE).encode()) == PAUSE
    assert requests.parse_pause(b"") == {}
    assert requests.parse_resume(json.dumps(RESUME).encode()) == RESUME
    for found in (BEGIN, NOTE, END):
        assert requests.parse_in_place(json.dumps(found).encode()) == found


@pytest.mark.parametrize("body", ['{"seconds": 0}', '{"seconds": "2h"}', '{"reason": 7}', "[]"])
def test_a_pause_that_is_none(body: str) -> None:
    with pytest.raises(UsageError):
        requests.parse_pause(body.encode())


def test_others_that_are_none() -> None:
    with pytest.raises(UsageError, match="force"):
        requests.parse_resume(b'{"force": "yes"}')
    with pytest.raises(UsageError, match="needs 'point'"):
        requests.parse_in_place(b'{"done": true}')
    with pytest.raises(UsageError, match="not JSON"):
        requests.parse_in_place(b"")


def test_a_run_in_place_names_the_daemon_and_a_cycle_its_lease() -> None:
    asked = {"kind": "in-place", "point": "p1", "daemon": "/run/blocksnap/control.sock"}
    assert requests.parse_run_request(json.dumps(asked).encode()) == asked
    with pytest.raises(UsageError, match="needs 'daemon'"):
        requests.parse_run_request(b'{"kind": "in-place", "point": "p1"}')
    cycle = {"kind": "cycle", "volume": "vg/data", "lease": "z1"}
    assert requests.parse_run_request(json.dumps(cycle).encode()) == cycle
