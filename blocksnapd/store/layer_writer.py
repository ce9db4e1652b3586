"""Writing a layer object part by part: never more of it in memory than a few parts. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.store.entry_sum import entry_sum
from blocksnapd.store.layer_format import (
    PACKS_PER_BOX,
    PART_RUNS_MAX,
    Boxes,
    Directory,
    Footer,
    LayerHead,
    pack_directory,
    pack_part,
    read_part,
)
from blocksnapd.store.manifest_format import LayerRef
from blocksnapd.store.pack_table import pack_refs
from blocksnapd.store.runs import Runs, join
from blocksnapd.store.seal import TAG_SIZE, Scope, digest, new_key

if TYPE_CHECKING:
    from blocksnapd.model import U64
    from blocksnapd.store.point_format import PackRef


class LayerWriter:
    """Takes a layer's runs, ascending, and gives the bytes of its object, in order.

    ``check`` is the sum of all entries as they were read back from the bytes that went out.
    """

    def __init__(self, scope: Scope, head: LayerHead, metadata_public: bytes) -> None:
        self.check = 0
        self._scope, self._head, self._public = scope, head, metadata_public
        self._boxes = Boxes(scope, new_key())
        self._waiting: list[Runs] = []
        self._count = 0
        self._firsts: list[int] = []
        self._ends: list[int] = []
        self._counts: list[int] = []
        self._sizes: list[int] = []

    @property
    def entries(self) -> int:
        """Runs taken so far."""
        return sum(self._counts) + self._count

    def add(self, runs: Runs, weights: U64) -> list[bytes]:
        """Take runs that lie above all earlier ones; return what of the object is ready.

        ``weights``: of each pack that a location names, see ``entry_sum``.
        """
        if not len(runs):
            return []
        self._waiting.append(runs)
        self._count += len(runs)
        if self._count < PART_RUNS_MAX:
            return []
        runs = join(self._waiting)
        whole = len(runs) // PART_RUNS_MAX * PART_RUNS_MAX
        boxes = [self._part(_slice(runs, at), weights) for at in range(0, whole, PART_RUNS_MAX)]
        rest = _slice(runs, whole)
        self._waiting, self._count = [rest], len(rest)
        return boxes

    def finish(self, packs: list[PackRef], weights: U64) -> tuple[list[bytes], LayerRef]:
        """Return the rest of the object, and how a manifest names it.

        Memory: the boxes of all packs, 110 bytes for each.
        """
        boxes = []
        if self._count:
            boxes.append(self._part(join(self._waiting), weights))
        parts, pack_boxes, plain_sizes = len(self._sizes), [], []
        for at in range(0, len(packs), PACKS_PER_BOX):
            plain, plain_size = pack_refs(packs[at : at + PACKS_PER_BOX])
            pack_boxes.append(self._boxes.close_packs(parts, at // PACKS_PER_BOX, plain))
            plain_sizes.append(plain_size)
        directory = self._directory(len(packs), [len(box) for box in pack_boxes], plain_sizes)
        tail = self._tail(directory)
        head = self._head
        ref = LayerRef(
            from_seq=head.from_seq, to_seq=head.to_seq, name=self._scope.name,
            size=sum(self._sizes) + sum(map(len, pack_boxes)) + len(tail), tail_size=len(tail),
            tail_digest=bytes.fromhex(digest(tail)),
        )  # fmt: skip
        return [*boxes, *pack_boxes, tail], ref

    def _part(self, runs: Runs, weights: U64) -> bytes:
        plain, number = pack_part(runs), len(self._sizes)
        first, end = int(runs.starts[0]), int(runs.starts[-1]) + int(runs.lengths[-1])
        # What was packed, not what was meant: a fault in between shows in the sum.
        packed = read_part(plain, len(runs), len(weights), self._scope.name)
        self.check = (self.check + entry_sum(packed, weights)) % (1 << 64)
        box = self._boxes.close_part(number, plain)
        self._firsts.append(first)
        self._ends.append(end)
        self._counts.append(len(runs))
        self._sizes.append(len(box))
        return box

    def _directory(self, packs: int, sizes: list[int], plain_sizes: list[int]) -> Directory:
        def column(values: list[int]) -> U64:
            return np.array(values, dtype=np.uint64)

        def offsets(values: list[int]) -> U64:
            return np.cumsum(column([0, *values]), dtype=np.uint64)

        return Directory(
            self._head, self.check, column(self._firsts), column(self._ends),
            column(self._counts), offsets(self._sizes), packs, offsets(sizes),
            column(plain_sizes),
        )  # fmt: skip

    def _tail(self, directory: Directory) -> bytes:
        plain = pack_directory(directory)
        footer = Footer(
            seal=self._boxes.seal(self._public), repository_id=self._scope.repository_id,
            parts_size=int(directory.offsets[-1]), packs_size=int(directory.pack_offsets[-1]),
            directory_size=len(plain) + TAG_SIZE,
        ).pack()  # fmt: skip
        return self._boxes.close_directory(plain, footer) + footer


def _slice(runs: Runs, at: int) -> Runs:
    part = slice(at, at + PART_RUNS_MAX)
    return Runs(runs.starts[part], runs.lengths[part], runs.locations[part])
