"""Merging layers: a few spans become one object, window by window. Edge.

Reads and writes metadata only, so the key of maintenance is enough. Law of conservation: every
entry of what is merged is in the new layer or hidden by a newer one; the sums over all three must
agree (``store/entry_sum.py``), else there is no new layer.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from blocksnapd.errors import (
    BlocksnapError,
    CancelledRunError,
    ChecksumError,
    FormatError,
    NotFoundError,
    StoreError,
    StoreMissingError,
)
from blocksnapd.maintain.spans import due, replaced
from blocksnapd.store.entry_sum import entry_sum, pack_weight
from blocksnapd.store.layer_writer import LayerWriter
from blocksnapd.store.layers import renumbered
from blocksnapd.store.names import layer_name
from blocksnapd.store.point_reader import PointReader
from blocksnapd.store.runs import SLOT_BITS, Runs
from blocksnapd.store.seal import Scope
from blocksnapd.store.span_set import SpanSet
from blocksnapd.store.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from blocksnapd.maintain.spans import Wanted
    from blocksnapd.store.keys import MaintenanceKey
    from blocksnapd.store.manifest_format import LayerRef, LoadedManifest, PointEntry
    from blocksnapd.store.objects import ObjectStore
    from blocksnapd.store.point_format import PackRef

# Small enough for the columns of a window to stay in the processor's cache.
MERGE_RUNS_MAX = 1 << 17
_MODULUS = 1 << 64


@dataclass(frozen=True, slots=True)
class Merges:
    """What ``merge_due`` did.

    ``layers`` is what the next manifest lists: those of the last one, with ``made`` and without
    ``dropped``. ``left`` counts layers that are still due. ``problems`` are sentences.
    """

    layers: tuple[LayerRef, ...]
    made: tuple[LayerRef, ...] = ()
    dropped: tuple[LayerRef, ...] = ()
    left: int = 0
    problems: tuple[str, ...] = ()


def merge_due(
    store: ObjectStore,
    key: MaintenanceKey,
    loaded: LoadedManifest,
    points: Sequence[PointEntry],
    *,
    budget: int,
    distrusted: Collection[str] = (),
    cancelled: Callable[[], bool] = lambda: False,
) -> Merges:
    """Make the layers that are due, oldest first. Blocking; may take minutes.

    Nothing uses them until a manifest lists them: whoever calls publishes one. Merging that meets
    damage goes on with the next layer.

    Args:
        store: where the volume is.
        key: opens metadata.
        loaded: the newest manifest.
        points: all listed points, ascending, those committed since the manifest too.
        budget: bytes of layers to write; the last one may pass it.
        distrusted: names of layers that verification found damaged: made anew from others, and
            listed until then.
        cancelled: asked often whether to stop; what was made by then counts.

    Raises:
        StoreError: the place failed before anything was made.
    """
    before = loaded.manifest.layers
    trusted = tuple(ref for ref in before if ref.name not in distrusted)
    loaded = replace(loaded, manifest=msgspec.structs.replace(loaded.manifest, layers=trusted))
    spans = SpanSet(store, PointReader(store, key.source, key), loaded)
    spans.know(points)
    missing = due(points, trusted)
    made: list[LayerRef] = []
    problems: list[str] = []
    done: set[Wanted] = set()
    for one in missing:
        if sum(ref.size for ref in made) >= budget or cancelled():
            break
        try:
            ref = _merge_again(store, key, spans, one, cancelled)
        except (FormatError, NotFoundError) as error:
            problems.append(f"no layer {one.from_seq}-{one.to_seq}: {error.message}")
            continue
        except CancelledRunError:
            break
        except StoreError as error:
            if not made:
                raise
            problems.append(error.message)
            break
        spans.add(ref)
        made.append(ref)
        done.add(one)
    left = [one for one in missing if one not in done]
    # What could not be made anew stays: it may be all there is, and read well another day.
    layers = (*trusted, *made, *(ref for ref in before if ref.name in distrusted))
    old = set(replaced(points, layers, left))
    kept = tuple(sorted((ref for ref in layers if ref not in old), key=_place))
    dropped = tuple(ref for ref in before if ref not in kept)
    return Merges(kept, tuple(made), dropped, len(left), (*spans.problems, *problems))


def merge(
    store: ObjectStore,
    key: MaintenanceKey,
    spans: SpanSet,
    after: int,
    upto: int,
    *,
    cancelled: Callable[[], bool] = lambda: False,
) -> LayerRef:
    """Write one layer of what changed from point ``after`` to point ``upto``; durable on return.

    Raises:
        ChecksumError, RepositoryFormatError, NotFoundError: what it is made of is damaged or
            gone, or does not add up; nothing was written. CancelledRunError: ``cancelled`` said so.
        StoreFullError, StoreError: the place failed.
    """
    work = _Merge(key, spans, Stack(spans, after, upto), cancelled)
    store.put(work.name, work.parts())
    return work.ref()


class _Merge:
    """One layer in the making."""

    def __init__(
        self, key: MaintenanceKey, spans: SpanSet, stack: Stack, cancelled: Callable[[], bool]
    ) -> None:
        self._stack, self._cancelled = stack, cancelled
        volume_id = spans.volume_id
        head = stack.head
        head = replace(head, from_digest=head.from_digest or spans.digest(head.from_seq))
        self.name = layer_name(volume_id, head.from_seq, head.to_seq, secrets.token_hex(4))
        source = key.source
        scope = Scope(source.repository_id, volume_id, self.name)
        self._writer = LayerWriter(scope, head, source.metadata_public)
        self._given = [0] * stack.depth
        self._hidden = 0
        self._weights = np.zeros(0, dtype=np.uint64)  # by number in the stack's places
        self._numbers = np.zeros(0, dtype=np.uint64)  # in the new layer, from 1; 0: not used yet
        self._packs: list[PackRef] = []
        self._pack_weights = np.zeros(0, dtype=np.uint64)
        self._ref: LayerRef | None = None

    def parts(self) -> Iterator[bytes]:
        """Yield the bytes of the object; raises before the last ones if they do not add up."""
        for first, end in self._stack.windows(MERGE_RUNS_MAX):
            if self._cancelled():
                raise CancelledRunError("merging was cancelled")
            found = self._stack.account(first, end)
            self._learn()
            for at, runs in enumerate(found.given):
                self._given[at] += entry_sum(runs, self._weights)
            self._hidden += sum(entry_sum(runs, self._weights) for runs in found.hidden)
            runs = self._numbered(found.runs)
            yield from self._writer.add(runs, self._pack_weights)
        boxes, ref = self._writer.finish(self._packs, self._pack_weights)
        self._check()
        yield from boxes
        self._ref = ref

    def ref(self) -> LayerRef:
        """Return how a manifest names it, once all parts were taken."""
        assert self._ref is not None
        return self._ref

    def _check(self) -> None:
        for span, given in zip(reversed(self._stack.chain), self._given, strict=True):
            if given % _MODULUS != span.total():
                raise _unequal(f"what was read of {span.name}")
        if (sum(self._given) - self._hidden - self._writer.check) % _MODULUS:
            raise _unequal(f"the merged layer {self.name}")

    def _learn(self) -> None:
        places = self._stack.places
        known = len(self._weights)
        if known < len(places):
            more = [pack_weight(place.ref.name) for place in places[known:]]
            self._weights = np.concatenate([self._weights, np.array(more, dtype=np.uint64)])
            self._numbers = np.concatenate([self._numbers, np.zeros(len(more), np.uint64)])

    def _numbered(self, runs: Runs) -> Runs:
        # Packs get their numbers as they are met: what is hidden altogether gets none.
        used = np.zeros(len(self._numbers), dtype=np.bool_)
        used[runs.content().locations >> SLOT_BITS] = True
        new = np.flatnonzero(used & (self._numbers == 0))
        if len(new):
            self._numbers[new] = np.arange(1, len(new) + 1, dtype=np.uint64) + np.uint64(
                len(self._packs)
            )
            self._packs += [self._pack_ref(number) for number in new.tolist()]
            self._pack_weights = np.concatenate([self._pack_weights, self._weights[new]])
        return renumbered(runs, self._numbers - np.uint64(1))

    def _pack_ref(self, number: int) -> PackRef:
        place = self._stack.places[number]
        holder = "" if place.holder == place.ref.name else place.holder
        return msgspec.structs.replace(place.ref, holder=holder, offset=place.offset)


def _merge_again(
    store: ObjectStore,
    key: MaintenanceKey,
    spans: SpanSet,
    one: Wanted,
    cancelled: Callable[[], bool],
) -> LayerRef:
    # A layer found damaged on the way is left out: the second time smaller spans do its part.
    while True:
        known = len(spans.problems)
        try:
            return merge(store, key, spans, one.from_seq, one.to_seq, cancelled=cancelled)
        except (FormatError, StoreMissingError):
            if len(spans.problems) == known:
                raise


def _place(ref: LayerRef) -> tuple[int, int]:
    return ref.from_seq, ref.to_seq


def _unequal(what: str) -> BlocksnapError:
    return ChecksumError(
        f"{what} does not add up: an entry was lost, doubled or changed on the way",
        effect="The layer was not written; all points are as before.",
        hint="Suspect this machine's memory; if it happens again, report it.",
    )
