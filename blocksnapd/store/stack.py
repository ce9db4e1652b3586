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

    from blocksnapd.model import U64
    from blocksnapd.store.layers import PackPlace, Span
    from blocksnapd.store.manifest_format import Manifest
    from blocksnapd.store.objects import ObjectStore
    from blocksnapd.store.point_reader import LoadedPoint, PointReader

WINDOW_RUNS_MAX = 1 << 20
_STEP_RUNS = 1 << 17  # columns of so many stay in the processor's cache


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
        said = self._said(result)
        return Overlaid(result.take(said), given, [*hidden, covered, result.take(~said)])

    def windows(self, runs_max: int | None = None) -> Iterator[tuple[int, int]]:
        """Yield blocks ``(first, end)``, ascending, that cover all layers, of about so many runs.

        A window has at most ``runs_max`` runs (``WINDOW_RUNS_MAX``), and as many again as a part
        of each layer has.
        """
        # An older image may have been larger.
        end = max(1, *(span.head.blocks for span in self._chain))
        return self._cut(0, end, runs_max or WINDOW_RUNS_MAX)

    def _cut(self, first: int, end: int, runs_max: int) -> Iterator[tuple[int, int]]:
        begins, counts = self._marks
        low, high = np.searchsorted(begins, np.array([first, end], dtype=np.uint64))
        begins, windows = begins[low:high], counts[low:high] // np.uint64(runs_max)
        for cut in np.unique(begins[1:][windows[1:] != windows[:-1]]).tolist():
            if first < cut:
                yield first, cut
                first = cut
        if first < end:
            yield first, end

    def _overlaid(self, first: int, end: int) -> Runs:
        while True:
            chain, limits = self._chain, self._floors
            try:
                found = overlay_all(self._read(chain, limits, first, end))[0]
                return found.take(self._said(found))
            except _LostError:
                with self._lock:
                    if chain is self._chain:
                        self._plan()

    def _plan(self) -> None:
        chain = self._spans.chain(self._after, self._upto, self._digest)
        oldest, newest = chain[0].head, chain[-1].head
        below = 0
        if oldest.from_seq == self._after and oldest.floor:
            below = self._spans.blocks(self._after, newest.block_size)
        limits = floors([(span.head.blocks, span.head.floor) for span in chain], below)
        self._floors, self._chain, self._marks = limits, chain, _marks(chain)
        self._head = LayerHead(
            from_seq=self._after, to_seq=self._upto,
            from_digest=oldest.from_digest if oldest.from_seq == self._after else "",
            to_digest=newest.to_digest, size=newest.size, block_size=newest.block_size,
            floor=min(limits),
        )  # fmt: skip

    def _read(
        self, chain: Sequence[Span], limits: Sequence[int], first: int, end: int
    ) -> list[Runs]:
        # Newest first, each only where no newer one tells everything.
        found = []
        for span, floor in zip(reversed(chain), reversed(limits), strict=True):
            found.append(self._runs_of(span, first, end))
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

    def _said(self, runs: Runs) -> np.typing.NDArray[np.bool_]:
        # All but the zeros from the floor on, which go without saying.
        below = runs.starts < np.uint64(self._head.floor)
        return np.asarray(below | (runs.locations != ZERO))


def _marks(chain: Sequence[Span]) -> tuple[U64, U64]:
    # Where the parts of all layers begin, ascending, and how many runs there are up to each.
    marks = [span.marks() for span in chain]
    begins = np.concatenate([begins for begins, _ in marks])
    order = np.argsort(begins, kind="stable")
    counts = np.concatenate([counts for _, counts in marks])[order]
    return begins[order], np.cumsum(counts, dtype=np.uint64)
