"""Reading a layer object: its tail once, then only the parts that are asked for. Edge.

Thread-safe. Memory: the directory (24 bytes a part) and ``PARTS_CACHED_MAX`` parts.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING

from blocksnapd.errors import RepositoryFormatError
from blocksnapd.store.layer_format import PACKS_PER_BOX, read_part, unpack_tail
from blocksnapd.store.layers import PackPlace
from blocksnapd.store.pack_table import unpack_refs
from blocksnapd.store.runs import Runs, join
from blocksnapd.store.seal import Scope, damaged, digest

if TYPE_CHECKING:
    from blocksnapd.model import U64
    from blocksnapd.store.keys import MaintenanceKey
    from blocksnapd.store.layer_format import LayerHead
    from blocksnapd.store.manifest_format import LayerRef
    from blocksnapd.store.objects import ObjectStore

PARTS_CACHED_MAX = 4
_PARTS_PER_READ = 64


class LayerReader:
    """See ``layers.Span``: a merged layer."""

    def __init__(
        self, store: ObjectStore, ref: LayerRef, key: MaintenanceKey, volume_id: str
    ) -> None:
        """Read the tail.

        Raises:
            ChecksumError: it is not the one the manifest names.
            RepositoryFormatError: it is, but does not fit. StoreError: the place failed.
        """
        self._store, self._ref, self._volume_id = store, ref, volume_id
        scope = Scope(key.source.repository_id, volume_id, ref.name)
        tail = store.get_range(ref.name, ref.size - ref.tail_size, ref.tail_size)
        if digest(tail) != ref.tail_digest.hex():
            raise damaged(f"the tail of {ref.name}")
        self._directory, self._boxes = unpack_tail(tail, scope, ref.size, key.metadata_private)
        head = self._directory.head
        if (head.from_seq, head.to_seq) != (ref.from_seq, ref.to_seq):
            raise RepositoryFormatError(f"{ref.name} is not the layer it is named as")
        self._cached: OrderedDict[int, Runs] = OrderedDict()
        self._lock = Lock()

    @property
    def name(self) -> str:
        """The object."""
        return self._ref.name

    @property
    def head(self) -> LayerHead:
        """Between which points it lies, and what it tells."""
        return self._directory.head

    @property
    def packs(self) -> int:
        """How many packs its locations count in."""
        return self._directory.packs

    @property
    def entries(self) -> int:
        """Runs in all."""
        return int(self._directory.counts.sum())

    def marks(self) -> tuple[U64, U64, U64]:
        """Return where each of its parts begins and ends, and how many runs it has."""
        return self._directory.firsts, self._directory.ends, self._directory.counts

    def runs(self, first: int, end: int) -> Runs:
        """Return what it says of these blocks; see ``layers.Span``."""
        low, high = self._directory.overlapping(first, end)
        found: list[Runs] = []
        while low < high:
            cached = self._from_cache(low)
            if cached is None:
                stop = low + 1
                while stop < min(high, low + _PARTS_PER_READ) and stop not in self._cached:
                    stop += 1
                found += self._read(low, stop)
                low = stop
            else:
                found.append(cached)
                low += 1
        return join(found).cut(first, end)

    def total(self) -> int:
        """Return the sum of all its entries as its writer found it; see ``layers.Span``."""
        return self._directory.check

    def places(self, pack: int) -> tuple[int, list[PackPlace]]:
        """Return the packs in the box that ``pack`` is in; see ``layers.Span``."""
        directory, box = self._directory, pack // PACKS_PER_BOX
        low, high = (int(o) for o in directory.pack_offsets[box : box + 2])
        data = self._store.get_range(self.name, low, high - low)
        plain = self._boxes.open_packs(directory.parts, box, data)
        first = box * PACKS_PER_BOX
        refs = unpack_refs(
            plain, int(directory.pack_plain_sizes[box]),
            min(PACKS_PER_BOX, directory.packs - first), f"pack table {box} of {self.name}",
        )  # fmt: skip
        size = directory.head.block_size
        return first, [
            PackPlace(ref, self._volume_id, size, ref.holder or ref.name, ref.offset)
            for ref in refs
        ]

    def _from_cache(self, number: int) -> Runs | None:
        with self._lock:
            found = self._cached.get(number)
            if found is not None:
                self._cached.move_to_end(number)
            return found

    def _read(self, low: int, high: int) -> list[Runs]:
        offsets = self._directory.offsets
        base = int(offsets[low])
        data = memoryview(self._store.get_range(self.name, base, int(offsets[high]) - base))
        found = []
        for number in range(low, high):
            start, end = int(offsets[number]) - base, int(offsets[number + 1]) - base
            runs = self._part(number, data[start:end])
            found.append(runs)
            with self._lock:
                self._cached[number] = runs
                if len(self._cached) > PARTS_CACHED_MAX:
                    self._cached.popitem(last=False)
        return found

    def _part(self, number: int, box: memoryview) -> Runs:
        directory, what = self._directory, f"part {number} of {self.name}"
        plain = self._boxes.open_part(number, box)
        runs = read_part(plain, int(directory.counts[number]), directory.packs, what)
        first, end = int(directory.firsts[number]), int(directory.ends[number])
        if int(runs.starts[0]) != first or int(runs.starts[-1] + runs.lengths[-1]) != end:
            raise RepositoryFormatError(f"{what} lies elsewhere than the directory says")
        return runs
