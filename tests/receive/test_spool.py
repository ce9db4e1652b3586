"""Objects on their way to a bucket: nothing is sent but what came, and memory has an end."""

from __future__ import annotations

import os
import subprocess
import threading

import pytest

from blocksnapd.errors import ChecksumError, StoreError, StoreFullError
from blocksnapd.receive import spool as module
from blocksnapd.receive.spool import Spool


def test_what_came_in_pieces_is_sent_whole_and_leaves_nothing(tmp_path):
    sent: list[bytes] = []
    spool = Spool(str(tmp_path / "spool"))
    with spool.begin("x", lambda data: sent.append(data) or len(data)) as upload:
        upload.write(b"abc", memoryview(b"de"))
        upload.write(b"f" * 3_000_000)
        assert os.listdir(tmp_path / "spool") == []  # it has no name
        assert upload.publish() == 3_000_005
    with spool.begin("empty", lambda data: sent.append(data) or len(data)) as upload:
        assert upload.publish() == 0
    assert sent == [b"abcde" + b"f" * 3_000_000, b""]
    with spool.begin("never", sent.append) as upload:
        upload.write(b"abc")
    assert len(sent) == 2


def test_what_the_disk_damaged_is_not_sent(tmp_path):
    sent: list[bytes] = []
    with Spool(str(tmp_path)).begin("v/a", sent.append) as upload:
        upload.write(b"x" * 100_000)
        os.pwrite(upload._fd, b"y", 50_000)
        with pytest.raises(ChecksumError, match="v/a was damaged in the receiver's spool"):
            upload.publish()
    assert sent == []


def test_large_objects_wait_for_each_other_and_small_ones_for_nobody(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "WAIT_S_MAX", 0.05)
    spool, size = Spool(str(tmp_path)), module.SENDING_SIZE_MAX
    with spool.turn(10 * size):  # alone it may be of any size
        with pytest.raises(StoreError, match="on their way") as told, spool.turn(2 << 20):
            raise AssertionError("there was no room in memory")
        with spool.turn(1 << 20):
            pass
    assert told.value.transient
    with spool.turn(size // 2), spool.turn(size // 2):
        pass


def test_whoever_waits_goes_on_when_another_ends(tmp_path):
    spool, entered, size = Spool(str(tmp_path)), threading.Event(), module.SENDING_SIZE_MAX

    def wait() -> None:
        with spool.turn(size):
            entered.set()

    with spool.turn(size):
        thread = threading.Thread(target=wait)
        thread.start()
        assert not entered.wait(0.05)
    thread.join(10)
    assert entered.is_set()


def test_a_spool_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    for call in (Spool.check, lambda spool: spool.begin("x", len)):
        with pytest.raises(StoreError, match="Not a directory") as told:
            call(Spool(str(tmp_path / "file/spool")))
        assert "[receive] spool" in told.value.hint


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_a_spool_without_room_refuses_before_and_while_it_comes(tmp_path):
    mounted = tmp_path / "spool"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", mounted], check=True)
    try:
        spool = Spool(str(mounted))
        spool.check_room(1 << 19)
        with pytest.raises(StoreFullError, match="no room in the receiver's spool"):
            spool.check_room(1 << 21)
        with spool.begin("x", len) as upload, pytest.raises(StoreFullError) as told:
            upload.write(b"x" * (1 << 21))
        assert "[receive] spool" in told.value.hint
    finally:
        subprocess.run(["umount", mounted], check=True)
