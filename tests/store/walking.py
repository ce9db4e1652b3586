"""The slow way to an image's map: point by point, block by block, back to the nearest full one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.errors import RepositoryFormatError
from blocksnapd.store.runs import ZERO, Runs, interleave, is_ascending
from blocksnapd.store.tables import check_locations, read_table

if TYPE_CHECKING:
    from blocksnapd.store.point_format import Body, Header
    from blocksnapd.store.point_reader import PointReader

Place = tuple[str, int]


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """What changed up to an image of ``blocks`` blocks.

    A block from ``floor`` on that is in no run is zero; one below it is as in the image before.
    """

    runs: Runs
    blocks: int
    floor: int


def check_layer(header: Header, body: Body) -> Layer:
    """Return the layer of a point at once; RepositoryFormatError: it is not sound."""
    data = read_table(body.data, located=True)
    check_locations(data, np.array([pack.blocks for pack in body.packs], dtype=np.uint64))
    runs = interleave(data, read_table(body.zeros, located=False))
    outside = len(runs) and int(runs.ends[-1]) > header.blocks
    if outside or not is_ascending(runs.starts, runs.lengths):
        raise RepositoryFormatError("not sound")
    return Layer(runs, header.blocks, 0 if header.kind == "full" else header.blocks)


def walked(reader: PointReader, name: str) -> dict[int, Place]:
    """Return block -> (pack, slot) of the point ``name``."""
    chain = [reader.load(name)]
    while chain[-1].object.header.kind != "full":
        chain.append(reader.load(chain[-1].object.header.prev_name))
    found: dict[int, Place] = {}
    for loaded in reversed(chain):
        layer = check_layer(loaded.object.header, loaded.body)
        found = {block: at for block, at in found.items() if block < layer.blocks}
        names = [place.ref.name for place in loaded.places()]
        for start, length, location in zip(
            layer.runs.starts.tolist(), layer.runs.lengths.tolist(),
            layer.runs.locations.tolist(), strict=True,
        ):  # fmt: skip
            for n in range(length):
                if location == ZERO:
                    found.pop(start + n, None)
                else:
                    found[start + n] = (names[location >> 32], (location & 0xFFFFFFFF) + n)
    return found
