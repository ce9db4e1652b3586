"""A repository with a history of every shape, ways to damage it, and what must follow."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.store.names import packs_prefix, points_prefix
from tests.store.support import VOLUME, Lab

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest


def history_lab(patch: pytest.MonkeyPatch, *, blocks: int = 100) -> Lab:
    """Return eight points: many packs, inline ones, zeros, resizes, a second full one."""
    patch.setattr("blocksnapd.store.pack_writer.BATCH_SIZE", 65536)
    patch.setattr("blocksnapd.store.pack_writer.PACK_SIZE_TARGET", 100_000)
    lab = Lab(blocks=blocks)
    lab.write(range(4, blocks - 4), noise=True)
    patch.setattr("blocksnapd.store.sink.INLINE_SIZE_MAX", 0)
    lab.commit()
    patch.setattr("blocksnapd.store.sink.INLINE_SIZE_MAX", 1 << 20)
    lab.commit(lab.write([0, 10, 11, blocks - 1], noise=True))
    lab.commit(np.union1d(lab.write([10, 20]), lab.zero([30, 31])))
    lab.resize((blocks // 2) * lab.block_size)
    lab.commit(lab.write([3, blocks // 2 - 1]))
    lab.resize(blocks * lab.block_size)
    lab.commit(lab.write([blocks - 2]))
    lab.commit()
    lab.commit(lab.write([5, 6, 7], noise=True))
    lab.commit([])
    return lab


def packs(lab: Lab) -> list[str]:
    """Return the names of all packs that are objects."""
    return lab.store.list_names(packs_prefix(VOLUME))


def points(lab: Lab) -> list[str]:
    """Return the names of all points, oldest first."""
    return lab.store.list_names(points_prefix(VOLUME))


@contextmanager
def changed(lab: Lab, name: str, data: bytes | None) -> Iterator[None]:
    """Put other bytes, or none, under a name for a while."""
    whole = lab.store.objects[name]
    try:
        if data is None:
            del lab.store.objects[name]
        else:
            lab.store.objects[name] = data
        yield
    finally:
        lab.store.objects[name] = whole


def flipped(data: bytes, at: int) -> bytes:
    """Return ``data`` with one bit of the byte ``at`` changed."""
    return data[:at] + bytes([data[at] ^ 0x20]) + data[at + 1 :]
