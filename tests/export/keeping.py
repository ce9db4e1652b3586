"""A file of the host as the first point of a repository."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.blocks import hash_blocks, nonzero_mask, state_add, state_sum
from blocksnapd.model import PointFacts

if TYPE_CHECKING:
    from blocksnapd.model import RestorePoint
    from blocksnapd.store.repository import Repository

BLOCK = 4096
READ = 4 << 20


def keep(repository: Repository, name: str, path: str) -> RestorePoint:
    """Commit the content of ``path``, a multiple of blocks, as a point of volume ``name``."""
    point_id = f"p{name.encode().hex():0<16}"[:17]
    sink = repository.begin(name, point_id, block_size=BLOCK, base=None)
    total = size = 0
    with open(path, "rb") as file:
        while data := file.read(READ):
            mask = nonzero_mask(memoryview(data), BLOCK)
            blocks = np.flatnonzero(mask).astype(np.uint64) + np.uint64(size // BLOCK)
            rows = np.frombuffer(data, dtype=np.uint8).reshape(-1, BLOCK)[mask]
            kept = memoryview(rows.tobytes())
            if len(blocks):
                hashes = hash_blocks(kept, BLOCK, repository.hash_key)
                total = state_add(total, state_sum(blocks, hashes), 0)
                sink.add(blocks, hashes, kept)
            size += len(data)
    return sink.commit(
        PointFacts(
            name, name, point_id, datetime.now(UTC), size, BLOCK, "full", "first", "scan",
            "crash", 0, size, total,
        )
    )  # fmt: skip
