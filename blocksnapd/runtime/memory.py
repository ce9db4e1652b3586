"""What becomes of memory that was freed. Edge: libc."""

from __future__ import annotations

import ctypes
from typing import Final

_M_TRIM_THRESHOLD: Final = -1  # glibc's numbers
_M_MMAP_THRESHOLD: Final = -3


def keep_freed(size: int, *, piece_max: int) -> bool:
    """Keep up to ``size`` bytes that pieces of at most ``piece_max`` left, for the next ones.

    By itself glibc gives such memory back to the kernel at once, which then clears every page of
    it anew for the next piece. Counts for the whole process and each of its heaps. Returns whether
    the C library knows of this; another one goes on as it is.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, piece_max) and mallopt(_M_TRIM_THRESHOLD, size))
