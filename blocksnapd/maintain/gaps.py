"""What changed between any two points of a volume, by the fewest layers there are. Edge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocksnapd.store.span_set import SpanSet
from blocksnapd.store.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from blocksnapd.store.layers import PackPlace
    from blocksnapd.store.manifest_format import LoadedManifest, PointEntry
    from blocksnapd.store.objects import ObjectStore
    from blocksnapd.store.point_reader import PointReader
    from blocksnapd.store.runs import Runs


class StackGaps:
    """``prune_frees.Gaps`` of one volume, whose points are ``points``."""

    def __init__(
        self,
        store: ObjectStore,
        reader: PointReader,
        loaded: LoadedManifest,
        points: Sequence[PointEntry],
    ) -> None:
        self._spans = SpanSet(store, reader, loaded)
        self._spans.know(points)

    def windows(self, after: int, upto: int) -> Iterator[tuple[Runs, Sequence[PackPlace]]]:
        """Yield what changed in pieces of bounded size; see ``prune_frees.Gaps``."""
        stack = Stack(self._spans, after, upto)
        for first, end in stack.windows():
            yield stack.content(first, end), stack.places
