"""Keeps a guest on one processor of the host, and guests on different ones. Edge.

A guest's kernel and each of its processes are processes of the host that wait for each other at
every system call and page fault. On two processors of a quiet host each of these waits wakes the
other one up, and all that a guest does takes four times as long.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "blocksnap-lab-processor"


@contextlib.contextmanager
def on_one_processor(name: str = NAME) -> Iterator[socket.socket]:
    """Keep what this thread starts meanwhile on one processor; yield the claim on it.

    Until the claim is closed, whoever asks under the same ``name`` gets another processor, as long
    as there is one. The name lives in the kernel, so nothing is left of a process that dies.
    """
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    allowed = os.sched_getaffinity(0)
    chosen = random.choice(sorted(allowed))
    for processor in sorted(allowed):
        with contextlib.suppress(OSError):  # somebody else has it
            claim.bind(f"\0{name}-{processor}")
            chosen = processor
            break
    os.sched_setaffinity(0, {chosen})  # of this thread alone
    try:
        yield claim
    finally:
        os.sched_setaffinity(0, allowed)
