"""How blocks are packed: the level of compression, and how much is compressed together. Pure."""

from __future__ import annotations

from typing import NamedTuple

FRAME_SIZES = (64 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20)
LEVELS = (-7, 19)


class Packing(NamedTuple):
    """zstd's level, and the bytes of a whole frame, of ``FRAME_SIZES``."""

    level: int
    frame_size: int


# Chosen by ``python -m tests.bench.bench_compare``, which prints what each of them costs. Larger
# frames take a tenth less room and fewer steps, but a disk served from them reads a block three
# times as slowly, and a frame can be dropped only once all its blocks are dead.
FAST = Packing(-3, 1 << 20)
SMALL = Packing(3, 256 << 10)
PACKING_DEFAULT = SMALL
PACKINGS = {"fast": FAST, "small": SMALL}
