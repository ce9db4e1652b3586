"""One daemon per state directory: two would spoil each other's journals and fingerprints. Edge."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from blocksnapd.errors import BusyError, HostError
from blocksnapd.runtime import durable
from blocksnapd.runtime.owned import open_locked

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
        fd = open_locked(os.path.join(state_dir, LOCK_NAME))
    except OSError as error:
        raise HostError(
            f"the state directory {state_dir} cannot be used: {error.strerror}",
            effect="The daemon did not start; no point was harmed.",
            hint="Name another one with [daemon] state_dir, or make this one writable for the "
            "daemon's user.",
        ) from error
    if fd is None:
        raise BusyError(
            f"another daemon works with the state directory {state_dir}",
            effect="This one did not start; the other one goes on.",
            hint="Stop the other one first, or give each its own [daemon] state_dir and volumes.",
        )
    try:
        yield
    finally:
        os.close(fd)
