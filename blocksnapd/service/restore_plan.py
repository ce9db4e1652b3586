"""What a restore would do, before it does it: the ``planned`` of a run. Blocking.

target            "file", "device" or "volume", one that is to be made
to                where; ``replaces``: what is there now goes
size              bytes of the image; ``volume_size``: of the volume to be made
content_bytes     of them that are written; the others are zero
kept_bytes        of these that a killed restore left, if they still are what they were
rate, seconds     bytes/s at which the repository was read just now, and what the rest takes at
                  that rate; None when there was too little to tell
consistency       of the point; ``suspect``: the volume held something else at that instant
read_back         when the last of its packs was read back whole; None: some never were
read_back_packs   of how many of its packs that is known, and of how many
damaged_bytes     known to be lost; None when the map cannot be read
"""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from blocksnapd.control.messages import format_time
from blocksnapd.errors import FormatError, NotFoundError, StoreError
from blocksnapd.keep_rules import SECOND_US
from blocksnapd.store.salvage import packs_of, spoiled
from blocksnapd.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocksnapd.restore.target import TargetPlan
    from blocksnapd.service.worker_points import WorkerPoints
    from blocksnapd.store.image import Image

RATE_SIZE: Final = 64 * MIB  # read so much, or for so long
RATE_S: Final = 1.0
RATE_SIZE_MIN: Final = 4 * MIB
_UNREADABLE: Final = (FormatError, StoreError, NotFoundError)


def planned(
    image: Image, plan: TargetPlan, points: WorkerPoints, *, kept: int, volume_size: int | None
) -> dict[str, Any]:
    """Return what restoring ``image`` to what ``plan`` names would do.

    Args:
        image: the point.
        plan: where to.
        points: what is known of it.
        kept: bytes that a killed restore remembered.
        volume_size: of a volume that is to be made.
    """
    facts = image.point.facts
    content = image.data_size()
    rate = measured_rate(image)
    return {
        "target": "volume" if volume_size is not None else plan.kind,
        "to": plan.path, "replaces": plan.replaces, "size": image.size,
        **({} if volume_size is None else {"volume_size": volume_size}),
        "point": facts.point_id, "volume": facts.volume_name,
        "time": format_time(facts.time.timestamp()), "consistency": facts.consistency,
        "suspect": points.is_suspect(image.point),
        "content_bytes": content, "kept_bytes": min(kept, content), "rate": rate,
        "seconds": max(0, content - kept) / rate if rate else None, "notes": list(plan.notes),
        **known(image, points),
    }  # fmt: skip


def known(image: Image, points: WorkerPoints) -> dict[str, Any]:
    """Return what verification told of what ``image`` needs."""
    try:
        told = points.repository.told(image.point.facts.volume_id)
        packs = packs_of(image.map)
        read = [when for name in packs if (when := told.checked.get(name)) is not None]
        bad = {record.name: record for record in told.bad.values() if record.pack is not None}
        slots = {name: record.rows().slots.astype("intp") for name, record in bad.items()}
        lost = spoiled(image.map, slots).blocks * image.block_size if bad else 0
    except _UNREADABLE:
        return {"read_back": None, "read_back_packs": [0, 0], "damaged_bytes": None}
    is_all = len(read) == len(packs)
    return {
        "read_back": format_time(min(read) / SECOND_US) if read and is_all else None,
        "read_back_packs": [len(read), len(packs)],
        "damaged_bytes": min(lost, image.size),
    }


def measured_rate(
    image: Image, clock: Callable[[], float] = time.monotonic
) -> float | None:  # fmt: skip
    """Return at how many bytes/s content is read, from a short try; None: there is too little."""
    start, size = clock(), 0
    try:
        with closing(image.each_piece(lambda _blocks, data: len(data))) as pieces:
            for length in pieces:
                size += length
                if size >= RATE_SIZE or clock() - start >= RATE_S:
                    break
    except _UNREADABLE:
        return None
    took = clock() - start
    return size / took if size >= RATE_SIZE_MIN and took > 0 else None
