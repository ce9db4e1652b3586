"""A file descriptor is closed once, at the end of a ``with`` or before."""

from __future__ import annotations

import os

import pytest

from blocksnapd.runtime.owned import OwnedFd, open_locked


class Held(OwnedFd):
    def __init__(self) -> None:
        self._fd = os.open("/dev/null", os.O_RDONLY)

    def fd(self) -> int:
        return self._fd


def test_it_is_closed_once_and_also_after_an_error():
    held = Held()
    fd = held.fd()

    def fail() -> None:
        with held as same:
            assert same is held
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        fail()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    other = os.open("/dev/null", os.O_RDONLY)  # which takes the number
    held.close()
    os.fstat(other)
    os.close(other)


def test_a_lock_lasts_as_long_as_its_file_is_open(tmp_path):
    path = str(tmp_path / "lock")
    held = open_locked(path)
    assert held is not None
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert open_locked(path) is None
    os.close(held)
    again = open_locked(path)
    assert again is not None
    os.close(again)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(OSError, match="symbolic"):
        open_locked(str(tmp_path / "link"), flags=os.O_NOFOLLOW)
