"""Reading one pack whole: which of its slots cannot be restored, and why. Edge. Thread-safe.

With restore.key each frame is opened and each block compared with its identity. Without it the
sealed bytes are compared with the sums in the pack's index; a pack of a writer that kept none is
told by its digest alone, so that any damage there is damage of all its slots.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from blake3 import blake3

from blocksnapd.errors import ChecksumError, FormatError, StoreError
from blocksnapd.store.frames import frame_sum, frame_sum_key
from blocksnapd.store.keys import RestoreKey
from blocksnapd.store.pack_reader import PackReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocksnapd.model import U8
    from blocksnapd.store.keys import MaintenanceKey
    from blocksnapd.store.layers import PackPlace
    from blocksnapd.store.objects import ObjectStore

    _FrameCheck = Callable[[PackReader, int, memoryview, int], "tuple[Slots, str]"]

_READ_FRAMES = 64
Slots = np.typing.NDArray[np.intp]


def _no_slots() -> Slots:
    return np.zeros(0, dtype=np.intp)


@dataclass(slots=True)
class PackCheck:
    """What looking at one pack showed.

    Attributes:
        place: the pack.
        problem: empty when nothing is wrong.
        reader: None when the tail cannot be read: then no slot can.
        lost: the slots that cannot be restored, ascending.
        blocks: how many blocks were read.
        own_identities: those by slot, where the pack moved and no reader has them.
    """

    place: PackPlace
    problem: str = ""
    reader: PackReader | None = None
    lost: Slots = field(default_factory=_no_slots)
    blocks: int = 0
    own_identities: U8 | None = None

    @property
    def identities(self) -> U8 | None:
        """The identities by slot, shape (slots, 16); None: nothing tells them."""
        if self.own_identities is not None or self.reader is None:
            return self.own_identities
        return self.reader.index.identities


def check_pack(
    store: ObjectStore, place: PackPlace, key: MaintenanceKey, *, with_data: bool
) -> PackCheck:
    """Return what is wrong with a pack: its tail and size, and ``with_data`` all its frames.

    What reads well the second time is well: a disk or network that stumbled once is no damage.
    """
    found = _check(store, place, key, with_data=with_data)
    if found.problem:
        found = _check(store, place, key, with_data=with_data)
    if found.problem and place.holder != place.ref.name:
        found.problem += f"; it lies in {place.holder}"  # or nobody finds the damaged object
    return found


def _check(
    store: ObjectStore, place: PackPlace, key: MaintenanceKey, *, with_data: bool
) -> PackCheck:
    try:
        reader = PackReader(store, place, key)
    except (FormatError, StoreError) as error:
        lost = np.arange(place.ref.blocks, dtype=np.intp)
        return PackCheck(place, error.message, lost=lost)
    found = PackCheck(place, reader=reader)
    if with_data:
        found.lost, found.problem = _read_all(reader, key)
        found.blocks = reader.index.slots
    if place.holder == place.ref.name and not found.problem:
        found.problem = _size_problem(store, place)
    return found


def _size_problem(store: ObjectStore, place: PackPlace) -> str:
    try:
        size = store.size(place.holder)
    except StoreError as error:
        return error.message
    return "" if size == place.ref.size else f"it has {size} bytes, not {place.ref.size}"


def _read_all(reader: PackReader, key: MaintenanceKey) -> tuple[Slots, str]:
    # Returns the slots that cannot be restored, and what is wrong in words.
    check = _frame_check(reader, key)
    hasher = blake3()
    bad: list[Slots] = []
    problem = ""
    for first in range(0, reader.frames, _READ_FRAMES):
        end = min(first + _READ_FRAMES, reader.frames)
        try:
            sealed = reader.read(first, end)
        except (FormatError, StoreError) as error:
            problem = problem or error.message
            bad += [_slots_of(reader, frame) for frame in range(first, end)]
            continue
        hasher.update(sealed)
        for frame in range(first, end):
            wrong, said = check(reader, frame, sealed, first) if check else (_no_slots(), "")
            if len(wrong):
                bad.append(wrong)
                problem = problem or said
    hasher.update(reader.tail)
    if not problem and hasher.hexdigest() != reader.place.ref.digest:
        problem = "its digest is not the one its point says"
        if check is None:
            bad = [np.arange(reader.index.slots, dtype=np.intp)]
    return (np.concatenate(bad) if bad else _no_slots()), problem


def _frame_check(reader: PackReader, key: MaintenanceKey) -> _FrameCheck | None:
    # How one frame is checked; None: not by itself.
    if isinstance(key, RestoreKey):
        return _open_frame
    if not len(reader.index.frame_sums):
        return None
    return partial(_sum_frame, frame_sum_key(key.source.hash_key))


def _open_frame(
    reader: PackReader, frame: int, sealed: memoryview, first: int
) -> tuple[Slots, str]:
    slots = _slots_of(reader, frame)
    try:
        plain = reader.open_frame(frame, sealed, first)
    except FormatError as error:
        return slots, error.message
    try:
        reader.check(slots, memoryview(plain))
    except ChecksumError as error:
        return slots[reader.mismatched(slots, memoryview(plain))], error.message
    return slots[:0], ""


def _sum_frame(
    key: bytes, reader: PackReader, frame: int, sealed: memoryview, first: int
) -> tuple[Slots, str]:
    slots, offsets = _slots_of(reader, frame), reader.index.offsets
    low, high = (int(o - offsets[first]) for o in offsets[frame : frame + 2])
    if frame_sum(sealed[low:high], key) == reader.index.frame_sums[frame].tobytes():
        return slots[:0], ""
    return slots, f"frame {frame} is not what was written"


def _slots_of(reader: PackReader, frame: int) -> Slots:
    first = frame * reader.slots_per_frame
    count = reader.index.frame_size(frame) // reader.index.block_size
    return np.arange(first, first + count, dtype=np.intp)
