"""Real block devices for tests: loop devices over sparse files, where the machine allows them."""

from __future__ import annotations

import fcntl
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def loop_device(directory: Path, size: int, *, read_only: bool = False) -> Iterator[str]:
    """Attach a new file of ``size`` bytes; skip the test, with the reason, where that fails."""
    backing = directory / f"loop-{size}.img"
    if not backing.exists():
        with backing.open("wb") as file:
            file.truncate(size)
    command = ["losetup", "--find", "--show", *(["--read-only"] if read_only else []), str(backing)]
    try:
        with one_at_a_time():
            made = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except OSError as error:
        pytest.skip(f"no loop device: {error}")
    if made.returncode:
        pytest.skip(f"no loop device: {made.stderr.strip()}")
    path = made.stdout.strip()
    try:
        yield path
    finally:
        with one_at_a_time():
            subprocess.run(["losetup", "--detach", path], timeout=30, check=True)


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Keep other test processes from looking for a free loop device, or letting one go.

    Two at once find the same free device, and the one that comes too late holds it open for
    writing for a moment: a user of the device, for whom a restore rightly refuses it.
    """
    with open("/dev/loop-control", "rb") as control:
        fcntl.flock(control, fcntl.LOCK_EX)
        yield


@contextmanager
def mounted(device: str, place: Path) -> Iterator[None]:
    """Mount ``device``, with a file system on it, at ``place``; skip where that fails."""
    place.mkdir()
    made = subprocess.run(
        ["mount", device, str(place)], capture_output=True, text=True, timeout=30, check=False
    )
    if made.returncode:
        pytest.skip(f"no mounting: {made.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], timeout=30, check=True)
