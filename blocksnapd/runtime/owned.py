"""What is closed at the end of a ``with``: the base of whatever holds a file descriptor."""

from __future__ import annotations

import os
from typing import Self


class Closing:
    """A context manager that closes itself."""

    def close(self) -> None:
        """Let go of what is held; a second call does nothing."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


class OwnedFd(Closing):
    """Holds the file descriptor ``_fd``, -1 once it is closed."""

    _fd: int = -1

    def close(self) -> None:
        """Let the file descriptor go; a second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
