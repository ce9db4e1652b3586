"""A file descriptor is closed once, at the end of a ``with`` or before."""

from __future__ import annotations

import os

import pytest

from blocksnapd.runtime.owned import OwnedFd


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
