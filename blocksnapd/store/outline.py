"""What a point tells whoever has no key. Edge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from blocksnapd.store.point_format import from_us
from blocksnapd.store.point_reader import read_header

if TYPE_CHECKING:
    from datetime import datetime

    from blocksnapd.model import Kind
    from blocksnapd.store.objects import ObjectStore


@dataclass(frozen=True, slots=True)
class PointOutline:
    """What a point's clear header says; not authenticated, needs no key."""

    name: str
    seq: int
    point_id: str
    time: datetime
    kind: Kind
    size: int
    block_size: int
    object_size: int


def read_outline(store: ObjectStore, name: str, repository_id: str) -> PointOutline:
    """Return what the header of a point says; raises as ``point_reader.read_header``."""
    header = read_header(store, name, repository_id)
    return PointOutline(
        name=name, seq=header.seq, point_id=header.point_id, time=from_us(header.time_us),
        kind=header.kind, size=header.size, block_size=header.block_size,
        object_size=store.size(name),
    )  # fmt: skip
