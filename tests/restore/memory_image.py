"""A point's image in memory, made of blocks, with its content handed out in any order."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np

from blocksnapd.model import Extents

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from blocksnapd.model import U64, RestorePoint

T = TypeVar("T")


class MemoryImage:
    """A ``PointImage`` over ``content``; ``seed`` decides the order and size of the pieces."""

    def __init__(self, content: bytes, block_size: int = 4096, seed: int = 0) -> None:
        self.content = content
        self.size = len(content)
        self.block_size = block_size
        self.point = cast("RestorePoint", None)  # no restore looks at it
        self._random = random.Random(seed)

    def blocks(self) -> list[int]:
        """Return the numbers of the blocks that are not all zero."""
        size = self.block_size
        count = -(-self.size // size)
        return [b for b in range(count) if self.content[b * size : (b + 1) * size].strip(b"\0")]

    def data_extents(self, start: int = 0, end: int | None = None) -> Extents:
        size = self.block_size
        runs: list[list[int]] = []
        for block in self.blocks():
            high = min((block + 1) * size, self.size)
            if runs and runs[-1][1] == block * size:
                runs[-1][1] = high
            else:
                runs.append([block * size, high])
        stop = self.size if end is None else end
        cut = [[max(low, start), min(high, stop)] for low, high in runs]
        array = np.array([r for r in cut if r[0] < r[1]], dtype=np.uint64).reshape(-1, 2)
        return Extents(array[:, 0], array[:, 1])

    def read_into(self, offset: int, view: memoryview) -> None:
        view[:] = self.content[offset : offset + len(view)]

    def pieces(self) -> Iterator[tuple[U64, memoryview]]:
        """Yield runs of blocks, several runs a piece, in a drawn order; the memory is reused."""
        size, left = self.block_size, self.blocks()
        buffer = bytearray(64 * size)
        runs = [left[at : at + 8] for at in range(0, len(left), 8)]
        self._random.shuffle(runs)
        while runs:
            taken = [runs.pop() for _ in range(min(len(runs), self._random.randint(1, 8)))]
            blocks = np.array([b for run in taken for b in run], dtype=np.uint64)
            for row, block in enumerate(blocks.tolist()):
                part = self.content[block * size : (block + 1) * size].ljust(size, b"\0")
                buffer[row * size : (row + 1) * size] = part
            yield blocks, memoryview(buffer)[: len(blocks) * size]
            buffer[:] = b"\xee" * len(buffer)

    def each_piece(self, work: Callable[[U64, memoryview], T]) -> Generator[T, None, None]:
        """Yield what ``work`` returns for each piece."""
        for blocks, data in self.pieces():
            yield work(blocks, data)

    def without(self, starts: U64, lengths: U64) -> MemoryImage:
        """Return the image with zeros in these runs of blocks."""
        content, size = bytearray(self.content), self.block_size
        for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
            end = min((start + length) * size, self.size)
            content[start * size : end] = bytes(end - start * size)
        return MemoryImage(bytes(content), size, self._random.randrange(1 << 30))

    def close(self) -> None:
        pass
