"""What holds a schedule: over restarts, crashes of whoever restores, and unreadable files."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from blocksnapd.errors import BusyError, NotFoundError, RefusedError
from blocksnapd.runtime.clock import ManualClock
from blocksnapd.service.pausing import HALF_RESTORED, Pausing, begun_at, is_alive

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from blocksnapd.control.messages import Who

ROOT: Who = {"pid": os.getpid(), "uid": 0, "login": "root"}


class Place:
    """The file of one volume, and daemons that read it one after the other."""

    def __init__(self, path: Path) -> None:
        self.path = path / "state" / "paused"
        self.clock = ManualClock()

    def daemon(self) -> Pausing:
        return Pausing("vg/data", str(self.path), self.clock)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def worker() -> Iterator[subprocess.Popen[bytes]]:
    """A process that lives until it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    yield process
    process.kill()
    process.communicate()


def kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def by(process: subprocess.Popen[bytes]) -> Who:
    return {"pid": process.pid, "uid": 0, "login": "root"}


def test_a_pause_outlives_the_daemon_and_ends_in_time(place: Place) -> None:
    pausing = place.daemon()
    assert (pausing.holds(), pausing.message()) == (False, None)
    pausing.pause(7200, "a large import", ROOT)
    pausing = place.daemon()
    told = pausing.message()
    assert told is not None
    assert (told["reason"], told["who"], "id" in told) == ("a large import", "root", False)
    assert told["until"] is not None
    assert pausing.problem() is None
    pausing.check_asked("")  # a run that somebody asks for goes on
    place.clock.jump(7199)
    assert pausing.holds()
    place.clock.jump(1)
    assert not pausing.holds()
    assert not place.path.exists()


def test_one_without_an_end_ends_by_word(place: Place) -> None:
    place.daemon().pause(None, "", ROOT)
    place.clock.jump(1e8)
    pausing = place.daemon()
    assert pausing.holds()
    pausing.resume(force=False)
    assert not pausing.holds()
    assert not place.daemon().holds()


@pytest.mark.parametrize("text", [b"", b"{", b'{"pause": {"since": "x"}}', b"\xff" * 70_000])
def test_what_cannot_be_read_is_a_pause(place: Place, text: bytes) -> None:
    place.path.parent.mkdir()
    place.path.write_bytes(text)
    pausing = place.daemon()
    told = pausing.message()
    assert told is not None
    assert "cannot be read" in told["reason"]
    pausing.resume(force=False)
    assert place.daemon().message() is None


def test_a_lease_before_anything_is_written_ends_with_its_process(
    place: Place, worker: subprocess.Popen[bytes]
) -> None:
    pausing = place.daemon()
    lease = pausing.begin("p7", by(worker))["id"]
    assert pausing.holds()
    assert place.daemon().holds()
    pausing.check_asked(lease)
    with pytest.raises(RefusedError, match="being restored in place to p7"):
        pausing.check_asked("")
    with pytest.raises(BusyError, match="being restored"):
        pausing.begin("p8", ROOT)
    with pytest.raises(BusyError, match="being restored"):
        pausing.resume(force=True)
    kill(worker)
    assert not pausing.holds()
    pausing.check_asked("")
    with pytest.raises(NotFoundError):
        pausing.check_asked(lease)
    with pytest.raises(NotFoundError):
        pausing.note(lease, safety="p9", writing=True)


def test_one_that_wrote_is_finished_undone_or_kept(
    place: Place, worker: subprocess.Popen[bytes]
) -> None:
    pausing = place.daemon()
    lease = pausing.begin("p7", by(worker))["id"]
    pausing.note(lease, safety="p9", writing=None)
    told = pausing.note(lease, safety=None, writing=True)
    assert (told["safety"], told["writing"]) == ("p9", True)
    assert pausing.problem() is None
    kill(worker)
    pausing = place.daemon()  # it was killed as well
    assert pausing.holds()
    found = pausing.problem()
    assert found is not None
    assert found["code"] == HALF_RESTORED
    assert "p7 --in-place" in found["hint"]
    assert "p9 --in-place" in found["hint"]
    with pytest.raises(RefusedError, match="was not finished"):
        pausing.check_asked("")
    with pytest.raises(RefusedError, match="was not finished") as caught:
        pausing.resume(force=False)
    assert "resume vg/data --yes" in caught.value.hint
    again = pausing.begin("p9", ROOT)
    assert (again["safety"], again["writing"]) == ("p9", True)
    assert again["id"] != lease
    with pytest.raises(NotFoundError):
        pausing.end(lease)
    assert pausing.problem() is None  # somebody is at it
    pausing.end(again["id"])
    assert not pausing.holds()


def test_a_mixture_may_be_kept_by_word(place: Place, worker: subprocess.Popen[bytes]) -> None:
    pausing = place.daemon()
    pausing.note(pausing.begin("p7", by(worker))["id"], safety="p9", writing=True)
    kill(worker)
    pausing.resume(force=True)
    assert pausing.message() is None


def test_a_pause_stays_under_a_restore(place: Place) -> None:
    pausing = place.daemon()
    pausing.pause(None, "night", ROOT)
    lease = pausing.begin("p7", ROOT)["id"]
    pausing.end(lease)
    told = pausing.message()
    assert told is not None
    assert told["reason"] == "night"


def test_who_is_alive(worker: subprocess.Popen[bytes]) -> None:
    begun = begun_at(worker.pid)
    assert begun > 0
    assert is_alive(worker.pid, begun)
    assert not is_alive(worker.pid, begun + 1)  # the number is somebody else's now
    worker.kill()
    os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(worker.pid, begun)  # not even as a zombie
    assert not is_alive(0, 0)
