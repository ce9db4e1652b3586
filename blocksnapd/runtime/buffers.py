"""Memory for large buffers that are used again and again. Edge."""

from __future__ import annotations

import contextlib
import mmap


def buffers(count: int, size: int) -> list[memoryview]:
    """Return ``count`` page-aligned buffers of ``size`` bytes, zeroed; pages are taken on use.

    They are of large pages where the kernel gives some: what reads and fills them, the kernel
    for direct I/O included, looks up far fewer addresses then.
    """
    area = mmap.mmap(-1, count * size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without them
        area.madvise(mmap.MADV_HUGEPAGE)
    whole = memoryview(area)
    return [whole[at : at + size] for at in range(0, count * size, size)]
