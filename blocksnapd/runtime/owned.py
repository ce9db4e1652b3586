"""What is held until it is let go: file descriptors, closed at the end of a ``with``, and locks."""

from __future__ import annotations

import fcntl
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


def open_locked(path: str, *, flags: int = 0) -> int | None:
    """Open a file, made with mode 0600 if it is missing, and lock it for as long as it is open.

    Args:
        path: the file; it stays when the lock goes.
        flags: more of ``os.open``'s.

    Returns:
        The file descriptor, or None: somebody else has the lock.

    Raises:
        OSError: it cannot be opened.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | flags, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    except BaseException:
        os.close(fd)
        raise
    return fd
