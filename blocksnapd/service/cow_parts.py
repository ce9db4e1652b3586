"""What differs, on its way into a COW device: parts of a volume as runs of chunks. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocksnapd.parse.cow_writer import CowWriter
    from blocksnapd.store.difference import Difference, Part


def begun_parts(difference: Difference, writer: CowWriter, chunk_size: int) -> Iterator[Part]:
    """Yield each part once ``writer`` has numbered its chunks and takes their content.

    Raises:
        HostError: the table could not be written.
    """
    unit = np.uint64(chunk_size)
    for part in difference.parts():
        starts = part.extents.starts // unit
        ends = (part.extents.ends + unit - np.uint64(1)) // unit
        writer.begin(starts, ends - starts)
        yield part
