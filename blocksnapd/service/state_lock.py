"""One daemon per state directory: two would spoil each other's journals and fingerprints. Edge."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from blocksnapd.errors import BusyError, HostError
from blocksnapd.runtime import durable

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCK_NAME = "lock"


@contextmanager
def state_lock(state_dir: str) -> Iterator[None]:
    """Hold ``state_dir``, made if it is missing, for this process; the kernel ends it with us.

    Raises:
        BusyError: another daemon holds it. HostError: it cannot be made or written to.
    """
    try:
        durable.make_dirs(state_dir)
        path = os.path.join(state_dir, LOCK_NAME)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise HostError(
            f"the state directory {state_dir} cannot be used: {error.strerror}",
            effect="The daemon did not start; no point was harmed.",
            hint="Name another one with [daemon] state_dir, or make this one writable for the "
            "daemon's user.",
        ) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise BusyError(
            f"another daemon works with the state directory {state_dir}",
            effect="This one did not start; the other one goes on.",
            hint="Stop the other one first, or give each its own [daemon] state_dir and volumes.",
        ) from None
    try:
        yield
    finally:
        os.close(fd)
