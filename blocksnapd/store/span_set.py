"""All spans of a volume: merged layers and the points' own; opens chains of them. Edge.

A missing or damaged layer is never an error as long as smaller spans tell the same: what cannot
be used is noted in ``problems`` and left out from then on. Thread-safe.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import OrderedDict
from threading import RLock
from typing import TYPE_CHECKING

from blocksnapd.errors import (
    BlocksnapError,
    ChecksumError,
    FormatError,
    NotFoundError,
    StoreError,
)
from blocksnapd.store.chains import Chains, Link
from blocksnapd.store.layer_reader import LayerReader
from blocksnapd.store.listing import DAMAGED, entry_name
from blocksnapd.store.names import is_point_name, parse_point_name, points_prefix
from blocksnapd.store.point_span import PointSpan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blocksnapd.store.layers import Span
    from blocksnapd.store.manifest_format import LayerRef, LoadedManifest, PointEntry
    from blocksnapd.store.objects import ObjectStore
    from blocksnapd.store.point_reader import LoadedPoint, PointReader

OPEN_MAX = 64


class SpanSet:
    """The spans of one volume, as the manifest and the listing of points show them.

    ``layers`` may be added to as they are made; points are listed only when a chain needs one
    that the manifest does not list.
    """

    def __init__(self, store: ObjectStore, reader: PointReader, loaded: LoadedManifest) -> None:
        self.loaded = loaded
        self.problems: list[str] = []
        self._store, self._reader = store, reader
        self._errors: list[BlocksnapError] = []
        self._refs: dict[str, LayerRef] = {}
        self._open: OrderedDict[str, Span] = OrderedDict()
        self._listed = False
        self._lock = RLock()
        self._fulls: list[int] = []
        self._sizes: dict[int, int] = {}
        self._names: dict[int, str] = {}
        self._chains = Chains()
        self.know(loaded.manifest.points)
        for ref in loaded.manifest.layers:
            self.add(ref)

    @property
    def volume_id(self) -> str:
        """The volume."""
        return self.loaded.volume_id

    def know(self, points: Sequence[PointEntry]) -> None:
        """Take listed points, ascending, those committed since the manifest too."""
        with self._lock:
            for entry in points:
                name, is_full = entry_name(self.volume_id, entry), entry.kind == "full"
                if is_full and name not in self._chains:
                    insort(self._fulls, entry.seq)
                self._names[entry.seq] = name
                if entry.method != DAMAGED:  # else the size it is listed with is a guess
                    self._sizes[entry.seq] = entry.size
                self._chains.add(Link(entry.seq - 1, entry.seq, name, is_full))

    def add(self, ref: LayerRef) -> None:
        """Take a layer that exists."""
        with self._lock:
            self._refs[ref.name] = ref
            at = bisect_right(self._fulls, ref.from_seq)
            is_whole = at < len(self._fulls) and self._fulls[at] <= ref.to_seq
            self._chains.add(Link(ref.from_seq, ref.to_seq, ref.name, is_whole))

    def give(self, loaded: LoadedPoint) -> None:
        """Take a point that is open already."""
        with self._lock:
            header = loaded.object.header
            self._chains.add(Link(header.seq - 1, header.seq, header.name, header.kind == "full"))
            self._remember(PointSpan(loaded))

    def shortest(self, after: int, upto: int) -> list[Link] | None:
        """Return which spans ``chain`` would open, oldest first; None: there is no chain."""
        with self._lock:
            found = self._chains.shortest(after, upto)
            if found is None and not self._listed:
                self._list()
                found = self._chains.shortest(after, upto)
            return found

    def chain(self, after: int, upto: int, digest: str = "") -> list[Span]:
        """Return the fewest spans, oldest first, that tell all changes ``after`` to ``upto``.

        Each starts with the very object, by digest, that the one before ends with, or, if damage
        leaves no such chain, within it; the last ends with ``digest`` if there is one. Short of
        ``after`` they start with one that needs nothing older.

        Raises:
            ChecksumError, RepositoryFormatError, NotFoundError, StoreError: there is no such
                chain; the first thing that was found wrong.
        """
        with self._lock:
            while True:
                # A full point that no manifest lists is known as one only once it is open.
                links = (
                    self.shortest(after, upto)
                    or self._chains.covering(after, upto)
                    or self._chains.farthest(after, upto)
                )
                if not links:
                    raise self._lost(after, upto)
                found = self._open_all(links, after, digest)
                if found is not None:
                    return found

    def discard(self, span: Span, error: BlocksnapError) -> None:
        """Use ``span`` no more: reading it gave ``error``."""
        with self._lock:
            self._open.pop(span.name, None)
            self._drop(span.name, error)

    def blocks(self, seq: int, block_size: int) -> int | None:
        """Return how many blocks the image of a point has; 0 for point 0.

        None: it is listed, but so damaged that it does not tell.

        Raises:
            NotFoundError: nothing tells. Others as ``chain``.
        """
        if seq == 0:
            return 0
        with self._lock:
            if seq not in self._sizes:
                try:
                    self._sizes[seq] = self._size_of(seq)
                except (FormatError, NotFoundError):
                    if seq not in self._names:
                        raise
                    return None
            return -(-self._sizes[seq] // block_size)

    def digest(self, seq: int) -> str:
        """Return the digest of a listed point's object, empty if it cannot be read."""
        try:
            return self._reader.load_clear(self._names[seq]).digest if seq else ""
        except (KeyError, FormatError, StoreError, NotFoundError):
            return ""  # verify reports it

    def _size_of(self, seq: int) -> int:
        # The image of a point that is not listed: a span ends there, or its object remains.
        for ref in self._refs.values():
            if ref.to_seq == seq:
                return self._span(Link(ref.from_seq, seq, ref.name)).head.size
        for name in self._store.list_names(points_prefix(self.volume_id)):
            if is_point_name(name) and parse_point_name(name).seq == seq:
                return self._reader.load_clear(name).header.size
        raise NotFoundError(f"nothing tells the size of the image of point {seq}")

    def _open_all(self, links: Sequence[Link], after: int, digest: str) -> list[Span] | None:
        # Newest first: each span is checked against what is newer, up to the point itself.
        found: list[Span] = []
        for at in reversed(range(len(links))):
            link = links[at]
            try:
                span = self._span(link, digest)
            except (FormatError, StoreError, NotFoundError) as error:
                self._drop(link.name, error)
                return None
            if digest and span.head.to_digest != digest:
                newer = found[-1].name if found else ""
                # A merged layer may be left out for what it was made of, a point may not.
                self._drop(newer if newer in self._refs else link.name, _apart(span, newer))
                return None
            found.append(span)
            if span.head.floor == 0:
                return found[::-1]
            follows = at and links[at - 1].to_seq == link.from_seq
            digest = span.head.from_digest if follows else ""
        if found[-1].head.from_seq != after:
            raise self._lost(after, links[-1].to_seq)
        return found[::-1]

    def _span(self, link: Link, digest: str = "") -> Span:
        span = self._open.get(link.name)
        if span is None:
            ref = self._refs.get(link.name)
            if ref is None:
                span = PointSpan(self._load(link.name, digest))
            else:
                span = LayerReader(self._store, ref, self._reader.metadata_key, self.volume_id)
            self._remember(span)
        self._open.move_to_end(link.name)
        return span

    def _load(self, name: str, digest: str) -> LoadedPoint:
        # What a damaged point says of blocks is still good for those that follow it, if it opens.
        try:
            return self._reader.load(name)
        except FormatError as error:
            if not digest:
                raise
            try:
                found = self._reader.salvage(name, digest)
            except FormatError:
                raise error from None
            self.problems.append(f"{name}: {error.message}")
            return found

    def _remember(self, span: Span) -> None:
        self._open[span.name] = span
        if len(self._open) > OPEN_MAX:
            self._open.popitem(last=False)

    def _list(self) -> None:
        self._listed = True
        for name in self._store.list_names(points_prefix(self.volume_id)):
            if is_point_name(name):
                seq = parse_point_name(name).seq
                self._chains.add(Link(seq - 1, seq, name))

    def _drop(self, name: str, error: BlocksnapError) -> None:
        self._chains.drop(name)
        self._errors.append(error)
        self.problems.append(f"{name}: {error.message}")

    def _lost(self, after: int, upto: int) -> BlocksnapError:
        if self._errors:
            return self._errors[0]
        return NotFoundError(
            f"no points or layers lead from point {after} to point {upto} of {self.volume_id}",
            hint="Run verify to learn what is missing.",
        )


def _apart(span: Span, newer: str) -> ChecksumError:
    return ChecksumError(
        f"{span.name} is not what {newer or 'was asked for'} says: it has another digest",
        effect="The two do not belong together; they are not used together.",
        hint="Run verify to learn which points and ranges are affected.",
    )
