"""A volume held for a restore in place, on real loop devices."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from blocksnapd.errors import NotAllowedError, RefusedError, VolumeError
from blocksnapd.model import Extents
from blocksnapd.restore import held_volume
from blocksnapd.restore.held_volume import HeldVolume
from blocksnapd.units import MIB
from tests.restore.loop_device import loop_device

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZE = 5 * MIB


@pytest.fixture
def device(tmp_path: Path) -> Iterator[str]:
    with loop_device(tmp_path, SIZE) as path:
        yield path


@pytest.mark.parametrize("can_zero_out", [True, False])
def test_what_is_written_is_read_past_the_cache(
    device: str, can_zero_out: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not can_zero_out:
        monkeypatch.setattr(held_volume, "_BLKZEROOUT", 0x12FF)  # an ioctl no device knows
    monkeypatch.setattr(held_volume, "RELEASE_SIZE", MIB)
    wanted = bytearray(os.urandom(SIZE))
    with HeldVolume(device) as held:
        assert (held.size, held.dm_uuid) == (SIZE, "")
        for at in range(0, SIZE, MIB // 2):
            held.write(at, memoryview(wanted)[at : at + MIB // 2])
        zeros = np.array([[4096, 8192], [MIB, 3 * MIB], [SIZE - 512, SIZE]], dtype=np.uint64)
        held.zero(Extents(zeros[:, 0], zeros[:, 1]))
        for start, end in zeros.tolist():
            wanted[start:end] = bytes(end - start)
        held.sync()
        found = memoryview(bytearray(SIZE))
        with held.reader() as reader:
            reader.read_into(0, found)
    assert found == wanted


def test_nobody_else_holds_it_meanwhile(device: str) -> None:
    with HeldVolume(device):
        with pytest.raises(OSError, match="busy"):
            os.open(device, os.O_RDONLY | os.O_EXCL)
        with pytest.raises(RefusedError, match="in use") as caught:
            HeldVolume(device)
    assert "restore to another place" in caught.value.hint
    os.close(os.open(device, os.O_RDONLY | os.O_EXCL))


def test_somebody_writes_to_it(device: str) -> None:
    script = f"file = open({device!r}, 'r+b'); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        with pytest.raises(RefusedError, match=f"process {writer.pid}"):
            HeldVolume(device)
        writer.kill()
    HeldVolume(device).close()


def test_what_is_none_or_read_only(tmp_path: Path) -> None:
    with (
        loop_device(tmp_path, SIZE, read_only=True) as device,
        pytest.raises((RefusedError, NotAllowedError)),
    ):
        HeldVolume(device)
    with pytest.raises(VolumeError, match="no block device"):
        HeldVolume(str(tmp_path))
    with pytest.raises(VolumeError, match="cannot be opened"):
        HeldVolume(str(tmp_path / "none"))
