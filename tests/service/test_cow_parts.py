"""Parts of a difference are numbered in the COW device before their content is taken."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from blocksnapd.model import Extents
from blocksnapd.parse.cow_device import CowDevice
from blocksnapd.parse.cow_format import bytes_needed
from blocksnapd.parse.cow_writer import CowWriter
from blocksnapd.service.cow_parts import begun_parts

CHUNK = 4096


def extents(*ranges):
    starts, ends = np.array(ranges, dtype=np.uint64).T
    return Extents(starts.copy(), ends.copy())


def test_all_chunks_are_listed_the_last_one_whole(tmp_path):
    # The second part ends in the middle of a chunk, as a volume may.
    ranges = [
        extents((0, 2 * CHUNK), (5 * CHUNK, 6 * CHUNK)),
        extents((9 * CHUNK, 9 * CHUNK + 512)),
    ]
    difference = SimpleNamespace(parts=lambda: (SimpleNamespace(extents=e) for e in ranges))
    path, size = str(tmp_path / "cow"), bytes_needed(4, CHUNK)
    with CowWriter(path, chunk_size=CHUNK, size=size) as writer:
        for part, chunks in zip(
            begun_parts(difference, writer, CHUNK), ([0, 1, 5], [9]), strict=True
        ):
            assert part.extents in ranges
            for chunk in chunks:
                writer.write(np.array([chunk], np.uint64), memoryview(bytes([chunk + 1]) * CHUNK))
        writer.finish()
    reader = CowDevice(path)
    table = reader.table(origin_size=10 * CHUNK, entries_max=100)
    assert table.old.tolist() == [0, 1, 5, 9]
    own = memoryview(bytearray(CHUNK))
    for old, new in zip(table.old.tolist(), table.new.tolist(), strict=True):
        reader.read_into(new * CHUNK, own)
        assert bytes(own) == bytes([old + 1]) * CHUNK
    reader.close()
