"""The lock of the state directory, held by real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from blocksnapd.errors import BusyError, HostError
from blocksnapd.service.state_lock import state_lock

if TYPE_CHECKING:
    from pathlib import Path

HOLD = """
import sys
from blocksnapd.service.state_lock import state_lock
with state_lock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_at_a_time_and_then_the_next(tmp_path: Path) -> None:
    place = str(tmp_path / "var" / "state")
    with state_lock(place), pytest.raises(BusyError, match="another daemon works with") as caught:
        state_lock(place).__enter__()
    assert place in caught.value.message
    assert caught.value.effect
    assert caught.value.hint
    with state_lock(place):
        assert os.stat(place).st_mode & 0o777 == 0o700


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(BusyError):
            state_lock(str(tmp_path)).__enter__()
        other.send_signal(signal.SIGKILL)
        other.wait(20)
    with state_lock(str(tmp_path)):
        pass


def test_a_place_that_cannot_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match="cannot be used: Not a directory") as caught:
        state_lock(str(tmp_path / "file" / "state")).__enter__()
    assert "state_dir" in caught.value.hint
