"""The slow way to an image's map: point by point, block by block, back to the nearest full one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocksnapd.store.layers import check_layer
from blocksnapd.store.runs import ZERO

if TYPE_CHECKING:
    from blocksnapd.store.point_reader import PointReader

Place = tuple[str, int]


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
