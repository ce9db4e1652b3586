"""A volume's points oldest to newest, each as the change against the one before. Edge.

Nothing here stops at damage: what cannot be read is named, and the image of a point is *unknown*
until a full point, or a layer that spans what is lost or a full point, makes it known again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from blocksnapd.errors import FormatError, NotFoundError, StoreError
from blocksnapd.store.layer_reader import LayerReader
from blocksnapd.store.listing import entry_name
from blocksnapd.store.manifests import Manifests
from blocksnapd.store.names import is_point_name, parse_point_name, points_prefix
from blocksnapd.store.pieces import by_pack
from blocksnapd.store.point_span import PointSpan
from blocksnapd.store.seal import damaged

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocksnapd.store.keys import MaintenanceKey
    from blocksnapd.store.layers import PackPlace, Span
    from blocksnapd.store.manifest_format import LayerRef
    from blocksnapd.store.objects import ObjectStore
    from blocksnapd.store.point_format import Header, PointObject
    from blocksnapd.store.point_reader import LoadedPoint, PointReader
    from blocksnapd.store.runs import Runs

UNREADABLE = (FormatError, StoreError, NotFoundError)
WINDOW_RUNS = 1 << 19


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """What one image has other than an older one, which ``span`` says.

    Blocks from ``floor`` on that stand in no run are zero, whatever they were.
    """

    span: Span
    floor: int

    def windows(self) -> Iterator[Runs]:
        """Yield all its runs, ascending, about ``WINDOW_RUNS`` at a time.

        Raises:
            ChecksumError, RepositoryFormatError, StoreError: ``read`` was not called before.
        """
        firsts, _, counts = self.span.marks()
        first, taken = 0, 0
        for mark, count in zip(firsts.tolist(), counts.tolist(), strict=True):
            if taken and taken + count > WINDOW_RUNS:
                yield self.span.runs(first, mark)
                first, taken = mark, 0
            taken += count
        yield self.span.runs(first, self.span.head.blocks)

    def by_pack(self, runs: Runs) -> Iterator[tuple[PackPlace, Runs]]:
        """Yield each pack that the content of ``runs``, a window, lies in, and those runs."""
        at = 0
        places: list[PackPlace] = []
        for pack, part in by_pack(runs.content()):
            if not at <= pack < at + len(places):
                at, places = self.span.places(pack)
            yield places[pack - at], part

    def read(self) -> None:
        """Read all of it once, so that a damaged part is found before any is used.

        Raises:
            ChecksumError, RepositoryFormatError, StoreError: it cannot be read.
        """
        for runs in self.windows():
            for _ in self.by_pack(runs):
                pass


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One listed point.

    Attributes:
        name: of its object.
        object_size: bytes of it; 0 when it cannot be read.
        header: None when it cannot be read.
        digest: of the whole object, hex.
        change: against the last point whose image is known; None: its own is unknown.
        problem: what is wrong with the object; empty: nothing.
        needs: the damaged object that keeps the image unknown, if that is another one.
        missing: the point before it, if that should be there and is not.
    """

    name: str
    object_size: int
    header: Header | None
    digest: str
    change: Change | None
    problem: str = ""
    needs: str = ""
    missing: str = ""

    @property
    def blocks(self) -> int:
        """Blocks of its image, if it is known."""
        return self.change.span.head.blocks if self.change else 0

    @property
    def size(self) -> int:
        """Bytes of its image, as far as that can be told."""
        if self.change is not None:
            return self.change.span.head.size
        return self.header.size if self.header else 0

    @property
    def block_size(self) -> int:
        """Bytes of a block; 0 when nothing tells."""
        if self.change is not None:
            return self.change.span.head.block_size
        return self.header.block_size if self.header else 0

    @property
    def seq(self) -> int:
        """The point's place in the chain."""
        return parse_point_name(self.name).seq

    @property
    def point_id(self) -> str:
        """The point's id."""
        return parse_point_name(self.name).point_id


class History:
    """The listed points of one volume: those of the manifest, and those committed since.

    ``loaded`` is the newest genuine manifest; ``strange`` names objects that are no points.
    """

    def __init__(
        self, store: ObjectStore, reader: PointReader, key: MaintenanceKey, volume_id: str
    ) -> None:
        """List them.

        Raises:
            StoreError: the place failed.
        """
        self._store, self._reader, self._key = store, reader, key
        self._volume_id = volume_id
        self.loaded, _ = Manifests(store, key).readable(volume_id)
        listed = self.loaded.manifest.points
        self._newest_listed = newest = listed[-1].seq if listed else 0
        there = store.list_names(points_prefix(volume_id))
        self.strange = [name for name in there if not is_point_name(name)]
        fresh = [n for n in there if is_point_name(n) and parse_point_name(n).seq > newest]
        self.names = [*(entry_name(volume_id, entry) for entry in listed), *fresh]
        self._there = set(there)
        self._layers: dict[int, list[LayerRef]] = {}
        for ref in self.loaded.manifest.layers:
            self._layers.setdefault(ref.to_seq, []).append(ref)

    def steps(self) -> Iterator[Step]:
        """Yield all points, oldest first; memory: one of them."""
        known: Step | None = None  # the newest whose image is known
        before: Step | None = None
        broken = ""  # the object that ended that
        for name in self.names:
            step = self._step(name, before, known, broken)
            if step.change is not None:
                known, broken = step, ""
            elif not broken:
                broken = step.needs or step.name
            before = step
            yield step

    def open_layer(self, ref: LayerRef) -> LayerReader:
        """Return a layer of the manifest; raises as ``LayerReader``."""
        return LayerReader(self._store, ref, self._key, self._volume_id)

    def _step(self, name: str, before: Step | None, known: Step | None, broken: str) -> Step:
        seq = parse_point_name(name).seq
        found: PointObject | None = None
        change, problem, needs = None, "", ""
        if name not in self._there:
            problem = "it is listed, but it is not there"
        else:
            try:
                loaded = self._reader.load(name)
                found = loaded.object
                change = self._own(loaded, known)
            except UNREADABLE as error:
                problem = error.message
                change = self._salvaged(name, known)
        if found is not None and not problem:
            problem = _link_problem(found.header, before)
        if change is None:
            change, needs = self._merged(seq, known)
        if change is None and found is not None and not problem:
            needs = broken or needs or found.header.prev_name
        header, size, digest = (found.header, found.size, found.digest) if found else (None, 0, "")
        if not digest and change is not None:
            digest = change.span.head.to_digest  # so that what follows can go on from its image
        missing = self._missing(header) if header else ""
        return Step(name, size, header, digest, change, problem, needs, missing)

    def _missing(self, header: Header) -> str:
        # Below the newest one that the manifest lists, what it does not list has expired.
        is_newer = header.seq - 1 > self._newest_listed
        return header.prev_name if is_newer and header.prev_name not in self._there else ""

    def _salvaged(self, name: str, known: Step | None) -> Change | None:
        # Not for itself: whoever opens the point wants all of it proven. For those that follow.
        try:
            return self._own(self._reader.salvage(name), known)
        except UNREADABLE:
            return None

    def _own(self, loaded: LoadedPoint, known: Step | None) -> Change | None:
        header = loaded.object.header
        change = Change(PointSpan(loaded), 0)
        change.read()
        if header.kind == "full":
            return change
        if known is None or known.name != header.prev_name:
            return None
        if known.digest not in ("", header.prev_digest):  # one that was salvaged has none
            return None
        return Change(change.span, min(known.blocks, header.blocks))

    def _merged(self, seq: int, known: Step | None) -> tuple[Change | None, str]:
        # A layer from any point at or before the known one says all that changed since that one;
        # one with a full point in it, everything.
        after, blocks = (known.seq, known.blocks) if known else (0, 0)
        failed = ""
        for ref in sorted(self._layers.get(seq, ()), key=lambda ref: -ref.from_seq):
            try:
                span = self.open_layer(ref)
                if ref.from_seq > after and span.head.floor:
                    continue
                if known is not None and after == ref.from_seq:
                    _check_digest(span, known.digest)
                change = Change(span, min(span.head.floor, blocks))
                change.read()
            except UNREADABLE:
                failed = failed or ref.name  # what is wrong with it, the check of layers tells
            else:
                return change, ""
        return None, failed


def _check_digest(span: LayerReader, digest: str) -> None:
    # What was salvaged has no digest, and is genuine all the same.
    follows = not digest or span.head.from_digest == digest
    if not follows and (span.head.from_digest or span.head.floor):
        raise damaged(f"{span.name} (it follows another point than the one that is there, so it)")


def _link_problem(header: Header, before: Step | None) -> str:
    if before is None:
        return ""
    if before.seq == header.seq:
        return f"a second point of this number, beside {before.name}"
    if before.seq != header.seq - 1:
        return ""  # what lay between them has expired, or is missing: then nothing gives the image
    if header.prev_name != before.name:
        return f"it follows {header.prev_name or 'no point'}, but {before.name} lies before it"
    if before.digest and header.prev_digest != before.digest:
        return f"it was written after another {before.name} than the one that is there"
    return ""
