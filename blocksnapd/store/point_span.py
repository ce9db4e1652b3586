"""A point's own layer as a span, unpacked piece by piece. Pure. Thread-safe."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.errors import RepositoryFormatError
from blocksnapd.store.entry_sum import entry_sum, pack_weight
from blocksnapd.store.layer_format import LayerHead
from blocksnapd.store.runs import Runs, interleave, is_ascending, join
from blocksnapd.store.tables import RunsPart, check_locations, count_runs, unpack_part

if TYPE_CHECKING:
    from blocksnapd.model import U64
    from blocksnapd.store.layers import PackPlace
    from blocksnapd.store.point_format import Body, Header
    from blocksnapd.store.point_reader import LoadedPoint

_BLOCKS_MAX = (1 << 64) - 1


class PointTables:
    """What a point's body says of blocks, checked piece by piece as it is read."""

    def __init__(self, header: Header, body: Body) -> None:
        """Take a body.

        Raises:
            RepositoryFormatError: its tables do not ascend, or claim more runs than the image has
                blocks.
        """
        self._name, self._blocks = header.name, header.blocks
        if count_runs(itertools.chain(body.data, body.zeros)) > header.blocks:
            raise RepositoryFormatError(f"{header.name} has more runs than its image has blocks")
        self._slots = np.array([pack.blocks for pack in body.packs], dtype=np.uint64)
        self._data = _Table(body.data, header.name, located=True)
        self._zeros = _Table(body.zeros, header.name, located=False)

    def check(self) -> None:
        """Read everything once, in memory for a part or two.

        Raises:
            RepositoryFormatError: runs overlap, lie outside the image, or point outside the packs.
        """
        firsts = self.marks()[0].tolist()
        for first, end in itertools.pairwise([*firsts, _BLOCKS_MAX]):
            self.runs(first, end)

    def marks(self) -> tuple[U64, U64, U64]:
        """Return where the parts of both tables begin, end at most, and how many runs they have.

        A part says only where it begins; it ends before the next.
        """
        tables = (self._data, self._zeros)
        last = np.array([self._blocks], dtype=np.uint64)
        ends = [np.append(table.firsts[1:], last)[: len(table.firsts)] for table in tables]
        firsts = np.concatenate([table.firsts for table in tables])
        counts = np.concatenate([table.counts for table in tables])
        stops = np.maximum(np.concatenate(ends), firsts + np.uint64(1))
        order = np.argsort(firsts, kind="stable")
        return firsts[order], stops[order], counts[order]

    def runs(self, first: int, end: int) -> Runs:
        """Return what they say of the blocks ``first`` up to but without ``end``.

        Raises:
            RepositoryFormatError: runs overlap, lie outside the image, or point outside the packs.
        """
        data, zeros = self._data.cut(first, end), self._zeros.cut(first, end)
        check_locations(data, self._slots)
        runs = interleave(data, zeros)
        beyond = len(runs) and int(runs.starts[-1]) + int(runs.lengths[-1]) > self._blocks
        if beyond or not is_ascending(runs.starts, runs.lengths):
            raise RepositoryFormatError(f"the layer of {self._name} overlaps, or passes the end")
        return runs

    def total(self, weights: U64) -> int:
        """Return the sum of all entries, part by part; see ``entry_sum``."""
        return (self._data.total(weights) + self._zeros.total(weights)) % (1 << 64)


class PointSpan:
    """See ``layers.Span``: what changed from the point before to this one."""

    def __init__(self, loaded: LoadedPoint) -> None:
        """Take a point that was opened.

        Raises:
            RepositoryFormatError: its tables do not ascend, or its packs are not as said.
        """
        header, body = loaded.object.header, loaded.body
        self.point = loaded
        self._name, self._places = header.name, loaded.places()
        self._tables = PointTables(header, body)
        self._head = LayerHead(
            from_seq=header.seq - 1, to_seq=header.seq, from_digest=header.prev_digest,
            to_digest=loaded.object.digest, size=header.size, block_size=header.block_size,
            floor=0 if header.kind == "full" else header.blocks,
        )  # fmt: skip

    @property
    def name(self) -> str:
        """The point's object."""
        return self._name

    @property
    def head(self) -> LayerHead:
        """Between which points it lies, and what it tells."""
        return self._head

    @property
    def packs(self) -> int:
        """How many packs its locations count in."""
        return len(self._places)

    def marks(self) -> tuple[U64, U64, U64]:
        """Return where its parts begin, end at most, and how many runs they have."""
        return self._tables.marks()

    def runs(self, first: int, end: int) -> Runs:
        """Return what it says of these blocks; see ``layers.Span``."""
        return self._tables.runs(first, end)

    def total(self) -> int:
        """Return the sum of all its entries, part by part; see ``layers.Span``."""
        names = [place.ref.name for place in self._places]
        return self._tables.total(np.array([pack_weight(name) for name in names], dtype=np.uint64))

    def places(self, pack: int) -> tuple[int, list[PackPlace]]:
        """Return all its packs; see ``layers.Span``."""
        assert 0 <= pack < len(self._places)
        return 0, self._places


class _Table:
    # A table of runs that stays packed: 2-3 bytes for a scattered block instead of 24.
    def __init__(self, parts: list[RunsPart], name: str, *, located: bool) -> None:
        self._parts, self._name, self._located = parts, name, located
        bad = any(not 0 <= part.first < 1 << 64 or not 0 < part.n < 1 << 32 for part in parts)
        if not bad:
            self.firsts = np.array([part.first for part in parts], dtype=np.uint64)
            self.counts = np.array([part.n for part in parts], dtype=np.uint64)
            bad = bool((self.firsts[1:] <= self.firsts[:-1]).any())
        if bad:
            raise RepositoryFormatError(f"the tables of {name} do not ascend")
        self._last: tuple[int, Runs] = (-1, Runs.empty())

    def cut(self, first: int, end: int) -> Runs:
        low = int(np.searchsorted(self.firsts, np.uint64(first), side="right"))
        high = int(np.searchsorted(self.firsts, np.uint64(end), side="left"))
        parts = [self._part(at) for at in range(max(low - 1, 0), high)]
        runs = join(parts)
        if len(parts) > 1 and not is_ascending(runs.starts, runs.lengths):
            raise RepositoryFormatError(f"the tables of {self._name} do not ascend")
        return runs.cut(first, end)

    def total(self, weights: U64) -> int:
        return sum(entry_sum(self._part(at), weights) for at in range(len(self._parts)))

    def _part(self, at: int) -> Runs:
        # Windows ascend: the part at the end of one is that at the start of the next.
        last = self._last
        if last[0] == at:
            return last[1]
        runs = unpack_part(self._parts[at], located=self._located)
        self._last = (at, runs)
        return runs
