"""Layer objects of any runs, as a merge writes them, and the store they lie in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.store.entry_sum import pack_weight
from blocksnapd.store.keys import RestoreKey, new_keys
from blocksnapd.store.layer_format import LayerHead
from blocksnapd.store.layer_reader import LayerReader
from blocksnapd.store.layer_writer import LayerWriter
from blocksnapd.store.names import layer_name, pack_name
from blocksnapd.store.point_format import PackRef
from blocksnapd.store.seal import Scope, digest
from tests.fakes.memory_objects import MemoryObjects

if TYPE_CHECKING:
    from blocksnapd.store.manifest_format import LayerRef
    from blocksnapd.store.runs import Runs

VOLUME = "vol-1"
NAME = layer_name(VOLUME, 3, 9, "00000000")
HEAD = LayerHead(3, 9, "ab" * 32, "cd" * 32, 1 << 62, 4096, 1 << 49)


def pack_ref(number: int, *, blocks: int = 1 << 20, holder: str = "") -> PackRef:
    return PackRef(
        name=pack_name(VOLUME, "20260102", "p" + "0" * 16, number, "01234567"), size=9000 + number,
        digest=digest(b"a%d" % number), tail_size=700, tail_digest=digest(b"b%d" % number),
        blocks=blocks, holder=holder, offset=number if holder else 0,
    )  # fmt: skip


@dataclass
class Layers:
    """A store for layer objects of one volume."""

    keys: RestoreKey = field(default_factory=lambda: new_keys("0123456789abcdef" * 2))
    store: MemoryObjects = field(default_factory=MemoryObjects)

    def put(
        self, windows: list[Runs], *, packs: int = 2, head: LayerHead = HEAD, name: str = NAME
    ) -> LayerRef:
        refs = [pack_ref(number) for number in range(packs)]
        weights = np.array([pack_weight(ref.name) for ref in refs], dtype=np.uint64)
        scope = Scope(self.keys.source.repository_id, VOLUME, name)
        writer = LayerWriter(scope, head, self.keys.source.metadata_public)
        parts = [part for runs in windows for part in writer.add(runs, weights)]
        rest, ref = writer.finish(refs, weights)
        self.store.objects[name] = b"".join([*parts, *rest])
        return ref

    def open(self, ref: LayerRef) -> LayerReader:
        return LayerReader(self.store, ref, self.keys, VOLUME)
