"""Many layers read as one, window by window: the map of a point, or a gap between two. Edge.

    newest   ▁▁ ▁   ▁▁▁    ▁      a point committed just now
             ▔▔▔▔ ▔▔  ▔▔▔▔ ▔▔     what four points before it changed
             ▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔    …
    oldest   ▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔    everything up to point 8192

A window of blocks reads only the parts of layers that overlap it. Thread-safe. Memory: the
directories of the layers, a few parts of each, and what is asked for.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from blocksnapd.blocks import distinct
from blocksnapd.errors import BlocksnapError, FormatError, StoreError
from blocksnapd.store.layer_format import LayerHead
from blocksnapd.store.layers import floors
from blocksnapd.store.manifests import Manifests
from blocksnapd.store.pack_places import PackPlaces
from blocksnapd.store.runs import ZERO, Runs, join, overlay_all
from blocksnapd.store.seal import damaged
from blocksnapd.store.span_set import SpanSet

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from blocksnapd.store.layers import PackPlace, Span
    from blocksnapd.store.manifest_format import Manifest
    from blocksnapd.store.objects import ObjectStore
    from blocksnapd.store.point_reader import LoadedPoint, PointReader

WINDOW_RUNS_MAX = 1 << 20
_STEP_RUNS = 1 << 17  # columns of so many stay in the processor's cache
_STEP_RUNS_MAX = 8 * _STEP_RUNS


class Overlaid(NamedTuple):
    """A window of a stack: what each layer says, what all say together, and what is hidden.

    ``given``, newest first, and ``hidden``, in no order, are for those who keep accounts.
    """

    runs: Runs
    given: Sequence[Runs]
    hidden: Sequence[Runs]


def open_point(
    store: ObjectStore, reader: PointReader, name: str, digest: str = ""
) -> tuple[LoadedPoint, Stack]:
    """Return the point ``name`` and the map of its image, from the newest manifest there is.

    Raises:
        NotFoundError: there is no such point. ChecksumError, RepositoryFormatError: it, or
            something it needs, is damaged; or it has another digest than ``digest``, if given.
        KeyMissingError: metadata cannot be opened. StoreError: the place failed.
    """
    loaded = reader.load(name)
    header, found = loaded.object.header, loaded.object.digest
    if digest and found != digest:
        raise damaged(f"{name} (it has another digest than was asked for, so it)")
    manifest, problems = Manifests(store, reader.metadata_key).readable(header.volume_id)
    spans = SpanSet(store, reader, manifest)
    spans.problems += problems
    spans.give(loaded)
    return loaded, Stack(spans, 0, header.seq, digest=found)


class _LostError(Exception):
    # A span cannot be read any more and was discarded.
    def __init__(self, error: BlocksnapError) -> None:
        super().__init__(error.message)
        self.error = error


class Stack:
    """What changed from one image of a volume (nothing at all: 0) to another.

    Locations count in ``places``, which only grows.
    """

    def __init__(self, spans: SpanSet, after: int, upto: int, *, digest: str = "") -> None:
        """Find and open the fewest spans; ``digest`` is that of the point ``upto``.

        Raises:
            ChecksumError, RepositoryFormatError, NotFoundError, StoreError: nothing that can be
                read tells all changes.
        """
        self._spans, self._after, self._upto, self._digest = spans, after, upto, digest
        self._packs = PackPlaces()
        self._lock = Lock()
        self._plan()

    @property
    def head(self) -> LayerHead:
        """Between which points it lies, and what it tells.

        ``from_digest`` is empty where the oldest layer needs nothing older.
        """
        return self._head

    @property
    def manifest(self) -> Manifest:
        """The manifest that its spans are of."""
        return self._spans.loaded.manifest

    @property
    def depth(self) -> int:
        """How many layers it is made of."""
        return len(self._chain)

    @property
    def problems(self) -> Sequence[str]:
        """What could not be used, and was done without."""
        return self._spans.problems

    @property
    def chain(self) -> Sequence[Span]:
        """The layers, oldest first."""
        return self._chain

    @property
    def places(self) -> Sequence[PackPlace]:
        """Where the packs are that were met so far."""
        return self._packs.places

    def runs(self, first: int, end: int) -> Runs:
        """Return what changed in the blocks ``first`` up to but without ``end``.

        Zeros below ``head.floor`` only: above it everything that is not told is zero.

        Raises:
            ChecksumError, RepositoryFormatError, NotFoundError: a layer is damaged, and no
                others tell the same. StoreError: the place failed.
        """
        return join([self._overlaid(*window) for window in self._cut(first, end, _STEP_RUNS)])

    def content(self, first: int, end: int) -> Runs:
        """Return where the content of these blocks lies; raises as ``runs``."""
        return self.runs(first, end).content()

    def account(self, first: int, end: int) -> Overlaid:
        """Return what ``runs`` does and what it was made of.

        Raises:
            ChecksumError, RepositoryFormatError, StoreError: a layer is damaged: it was
                discarded; a new stack may do without it.
        """
        given, shown, hidden = [], [], []
        limit = end
        try:
            for span, floor in zip(reversed(self._chain), reversed(self._floors), strict=True):
                runs = self._runs_of(span, first, end)
                given.append(runs)
                if limit < end:
                    hidden.append(runs.cut(max(first, limit), end))
                    runs = runs.cut(first, max(first, limit))
                shown.append(runs)
                limit = min(limit, floor)
        except _LostError as lost:
            raise lost.error from lost
        result, covered = overlay_all(shown)
        said, unsaid = self._said(result)
        return Overlaid(said, given, [*hidden, covered, unsaid])

    def windows(self, runs_max: int | None = None) -> Iterator[tuple[int, int]]:
        """Yield blocks ``(first, end)``, ascending, that cover all layers, of about so many runs.

        ``runs_max`` (``WINDOW_RUNS_MAX``) is kept on average of all layers; a window may have more
        where a part of a layer is denser than the rest of it.
        """
        # An older image may have been larger.
        end = max(1, *(span.head.blocks for span in self._chain))
        return self._cut(0, end, runs_max or WINDOW_RUNS_MAX)

    def _cut(self, first: int, end: int, runs_max: int) -> Iterator[tuple[int, int]]:
        places, counts = self._density
        low, high = np.interp([float(first), float(end)], places, counts)
        wanted = np.arange(low + runs_max, high, runs_max)
        for cut in distinct(np.interp(wanted, counts, places)).astype(np.uint64).tolist():
            if first < cut < end:
                yield first, cut
                first = cut
        if first < end:
            yield first, end

    def _overlaid(self, first: int, end: int) -> Runs:
        while True:
            chain, limits = self._chain, self._floors
            try:
                layers = self._read(chain, limits, first, end)
                if layers is None:
                    middle = (first + end) // 2
                    return join([self._overlaid(first, middle), self._overlaid(middle, end)])
                return self._said(overlay_all(layers)[0])[0]
            except _LostError:
                with self._lock:
                    if chain is self._chain:
                        self._plan()

    def _plan(self) -> None:
        chain = self._spans.chain(self._after, self._upto, self._digest)
        oldest, newest = chain[0].head, chain[-1].head
        below = 0
        if oldest.from_seq == self._after and oldest.floor:
            # Of an image of unknown size nothing goes without saying: the floor is lowered where
            # something is laid over it.
            known = self._spans.blocks(self._after, newest.block_size)
            below = oldest.floor if known is None else known
        limits = floors([(span.head.blocks, span.head.floor) for span in chain], below)
        self._floors, self._chain, self._density = limits, chain, _density_of(chain)
        self._head = LayerHead(
            from_seq=self._after, to_seq=self._upto,
            from_digest=oldest.from_digest if oldest.from_seq == self._after else "",
            to_digest=newest.to_digest, size=newest.size, block_size=newest.block_size,
            floor=min(limits),
        )  # fmt: skip

    def _read(
        self, chain: Sequence[Span], limits: Sequence[int], first: int, end: int
    ) -> list[Runs] | None:
        # Newest first, each only where no newer one tells everything. None: that would be much
        # more than was expected of so many blocks, and there are fewer to ask for.
        found, count, halves = [], 0, end - first > 1
        for span, floor in zip(reversed(chain), reversed(limits), strict=True):
            runs = self._runs_of(span, first, end)
            count += len(runs)
            if halves and count > _STEP_RUNS_MAX:
                return None
            found.append(runs)
            end = min(end, floor)
            if end <= first:
                break
        return found

    def _runs_of(self, span: Span, first: int, end: int) -> Runs:
        try:
            return self._packs.renumber(span, span.runs(first, end))
        except (FormatError, StoreError) as error:
            self._spans.discard(span, error)
            raise _LostError(error) from error

    def _said(self, runs: Runs) -> tuple[Runs, Runs]:
        # All but the zeros from the floor on, which go without saying; and these.
        floor = np.uint64(self._head.floor)
        beyond = (runs.locations == ZERO) & (runs.ends > floor)
        if not beyond.any():
            return runs, Runs.empty()
        starts = np.maximum(runs.starts, floor)
        lengths = np.where(beyond, starts - runs.starts, runs.lengths)
        said = Runs(runs.starts, lengths, runs.locations).take(lengths > 0)
        return said, Runs.zeros(starts[beyond], (runs.ends - starts)[beyond])


def _density_of(chain: Sequence[Span]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    # Blocks, ascending, and how many runs there are below each: as if those of each part of a
    # layer lay evenly, which is near enough to cut windows.
    marks = [span.marks() for span in chain]
    begins, ends, counts = (np.concatenate(column) for column in zip(*marks, strict=True))
    slopes = counts / (ends - begins)
    places, at = np.unique(np.concatenate([begins, ends]), return_inverse=True)
    slope = np.cumsum(np.bincount(at, np.concatenate([slopes, -slopes]), minlength=len(places)))
    spaces = np.diff(places.astype(np.float64))
    below = np.cumsum(np.concatenate([np.zeros(1), np.maximum(slope[:-1], 0) * spaces]))
    if not len(places):
        return np.zeros(1), np.zeros(1)
    return places.astype(np.float64), below
