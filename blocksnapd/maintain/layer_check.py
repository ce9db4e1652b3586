"""Merged layers against the points they span: genuine, whole, and nothing lost in a merge. Edge.

A layer between two points says all that changed from one image to the other. So the sum of the
older image, without what the layer replaces and with what it puts there, is that of the newer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from blocksnapd.blocks import state_add
from blocksnapd.maintain.history import UNREADABLE, Change
from blocksnapd.store.verify import ObjectCheck

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocksnapd.maintain.history import History, Step
    from blocksnapd.maintain.state_walk import StateWalk
    from blocksnapd.store.manifest_format import LayerRef
    from blocksnapd.store.objects import ObjectStore


@dataclass(frozen=True, slots=True)
class _Begun:
    # The older image: the digest of its point, its blocks, its sum without what is replaced.
    digest: str
    blocks: int
    kept: int | None


class LayerChecks:
    """Checks all layers of a manifest while a walk passes their points. One thread.

    ``objects`` takes what was found, by the name of the layer.
    """

    def __init__(
        self, store: ObjectStore, history: History, objects: dict[str, ObjectCheck]
    ) -> None:
        self._store, self._history, self._objects = store, history, objects
        self._from: dict[int, list[LayerRef]] = {}
        self._to: dict[int, list[LayerRef]] = {}
        self._begun: dict[str, _Begun] = {}
        for ref in history.loaded.manifest.layers:
            problem = _size_problem(store, ref)
            objects[ref.name] = ObjectCheck(ref.name, ref.size, problem)
            if not problem:
                self._from.setdefault(ref.from_seq, []).append(ref)
                self._to.setdefault(ref.to_seq, []).append(ref)
        for ref in self._from.get(0, ()):
            self._begun[ref.name] = _Begun("", 0, 0)

    def passing(self, step: Step, walk: StateWalk) -> None:
        """Check those that end at ``step``, which ``walk`` has just applied."""
        for ref in self._to.pop(step.seq, ()):
            self._check(ref, partial(self._end, ref, step, walk))
        for ref in self._from.get(step.seq, ()):
            self._check(ref, partial(self._begin, ref, step, walk))

    def finish(self) -> None:
        """Read those that end at no point that is listed: they must be whole, too."""
        for refs in self._to.values():
            for ref in refs:
                self._check(ref, lambda _change: "")

    def _check(self, ref: LayerRef, test: Callable[[Change], str]) -> None:
        if self._objects[ref.name].problem:
            return
        try:
            change = Change(self._history.open_layer(ref), 0)
            change.read()
            problem = test(change)
        except UNREADABLE as error:
            problem = error.message
        if problem:
            self._objects[ref.name] = ObjectCheck(ref.name, ref.size, problem)

    def _begin(self, ref: LayerRef, step: Step, walk: StateWalk, change: Change) -> str:
        total, kept = walk.state_sum, None
        if step.change is not None and total is not None:
            change = Change(change.span, min(change.span.head.floor, step.blocks))
            under = walk.sum_under(change)
            kept = None if under is None else state_add(total, 0, under)
        self._begun[ref.name] = _Begun(step.digest, step.blocks, kept)
        return ""

    def _end(self, ref: LayerRef, step: Step, walk: StateWalk, change: Change) -> str:
        head, begun = change.span.head, self._begun.pop(ref.name, None)
        if step.digest and head.to_digest != step.digest:
            return f"it leads to another {step.name} than the one that is there"
        if begun is None:
            return ""  # its older point has expired
        # A layer that needs nothing older may not know what it follows.
        knows = head.from_digest or head.floor
        if begun.digest and knows and head.from_digest != begun.digest:
            return f"it follows another point {head.from_seq} than the one that is there"
        if step.header is not None and head.size != step.header.size:
            return f"it has another size than {step.name}"
        added = walk.sum_of(change)
        if None in (begun.kept, added, walk.state_sum) or step.change is None:
            return ""
        assert begun.kept is not None
        assert added is not None
        if state_add(begun.kept, added, 0) != walk.state_sum:
            return f"it does not add up to what changed from point {ref.from_seq} to {ref.to_seq}"
        return ""


def _size_problem(store: ObjectStore, ref: LayerRef) -> str:
    try:
        size = store.size(ref.name)
    except UNREADABLE as error:
        return error.message
    return "" if size == ref.size else f"it has {size} bytes, not {ref.size}"
