"""The decoders of what maintenance writes: layers, collections, records of verification."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from blocksnapd.errors import RepositoryFormatError
from blocksnapd.store.check_records import CheckRecords
from blocksnapd.store.collection_format import (
    Condemned,
    Done,
    pack_collection,
    read_collection,
    unpack_collection,
)
from blocksnapd.store.compression import compress, decompress_exact
from blocksnapd.store.entry_sum import pack_weight
from blocksnapd.store.layer_format import (
    FOOTER_SIZE,
    LayerHead,
    read_directory,
    read_part,
    unpack_footer,
    unpack_tail,
)
from blocksnapd.store.layer_reader import LayerReader
from blocksnapd.store.layer_writer import LayerWriter
from blocksnapd.store.names import condemned_name, done_name, layer_name, record_name
from blocksnapd.store.pack_table import pack_refs, unpack_refs
from blocksnapd.store.record_format import (
    BadRows,
    Checked,
    HealedRecord,
    OkRecord,
    bad_pack_record,
    seal_record,
)
from blocksnapd.store.records import pack_record
from blocksnapd.store.runs import ZERO, Runs
from blocksnapd.store.seal import Scope, digest, object_tag
from tests.fakes.memory_objects import MemoryObjects
from tests.fuzz import samples

if TYPE_CHECKING:
    from blocksnapd.store.manifest_format import LayerRef

REPOSITORY = "0123456789abcdef" * 2
LAYER = layer_name(samples.VOLUME, 1, 5, "00000000")
PARTS_RUNS = 9000  # two parts


@cache
def layer() -> tuple[bytes, LayerRef]:
    """Return a layer object of two parts and three packs."""
    keys = samples.lab().keys
    starts = np.arange(0, PARTS_RUNS, dtype=np.uint64) * np.uint64(3)
    places = np.arange(0, PARTS_RUNS, dtype=np.uint64) | np.uint64(2 << 32)
    places[::7] = ZERO
    head = LayerHead(1, 5, "ab" * 32, "cd" * 32, 1 << 30, 4096, 100)
    refs = samples.pack_refs()[:3]
    weights = np.array([pack_weight(ref.name) for ref in refs], dtype=np.uint64)
    writer = LayerWriter(
        Scope(REPOSITORY, samples.VOLUME, LAYER), head, keys.source.metadata_public
    )
    runs = Runs(starts, np.ones(PARTS_RUNS, dtype=np.uint64), places)
    parts = writer.add(runs, weights)
    rest, ref = writer.finish(refs, weights)
    return b"".join([*parts, *rest]), ref


def _opened():
    data, ref = layer()
    scope = Scope(REPOSITORY, samples.VOLUME, LAYER)
    tail = data[-ref.tail_size :]
    return data, tail, unpack_tail(tail, scope, ref.size, samples.lab().keys.metadata_private)


def tails() -> list[bytes]:
    return [_opened()[1]]


def footers() -> list[bytes]:
    return [_opened()[1][-FOOTER_SIZE:]]


def read_footer(data: bytes) -> object:
    data = _opened()[1][:-FOOTER_SIZE] + data
    return unpack_footer(data, Scope(REPOSITORY, samples.VOLUME, LAYER), layer()[1].size)


def read_tail(data: bytes) -> object:
    """Open a layer whose tail is ``data``, as if the manifest named it so."""
    whole, ref = layer()
    whole = whole[: -ref.tail_size] + data
    named = msgspec.structs.replace(
        ref, size=len(whole), tail_size=len(data), tail_digest=bytes.fromhex(digest(data))
    )
    store = MemoryObjects()
    store.objects[LAYER] = whole
    return LayerReader(store, named, samples.lab().keys, samples.VOLUME).head


def directories() -> list[bytes]:
    _, tail, (_, boxes) = _opened()
    return [boxes.open_directory(tail[:-FOOTER_SIZE], tail[-FOOTER_SIZE:])]


def read_directory_of(data: bytes) -> object:
    """Read a directory and ask it for places, as opening does."""
    scope = Scope(REPOSITORY, samples.VOLUME, LAYER)
    found = read_directory(data, unpack_footer(tails()[0], scope, layer()[1].size), LAYER)
    low, high = found.overlapping(5, 1 << 40)
    assert 0 <= low <= high <= found.parts
    return found.head.blocks, [int(offset) for offset in found.offsets]


def parts() -> list[bytes]:
    data, _, (directory, boxes) = _opened()
    offsets = directory.offsets.tolist()
    return [boxes.open_part(n, data[offsets[n] : offsets[n + 1]]) for n in range(directory.parts)]


def read_part_of(data: bytes) -> object:
    """Read a part that should have as many runs as the first one."""
    return read_part(data, int(_opened()[2][0].counts[0]), 3, LAYER)


def pack_tables() -> list[bytes]:
    refs = samples.pack_refs()
    data, size = pack_refs(refs)
    return [decompress_exact(data, size)]


def read_pack_table(data: bytes) -> object:
    return unpack_refs(compress(data), len(data), len(samples.pack_refs()), "the table")


def collections() -> list[bytes]:
    """Return plain records of both kinds."""
    packs = tuple(name for name, _ in samples.packs())
    points = (samples.point(0)[0],)
    condemned = Condemned(REPOSITORY, samples.VOLUME, 3, 7, 2, 4, packs, (), points, (LAYER,))
    done = Done(REPOSITORY, samples.VOLUME, 3, 9, 4, 7, 1000, packs[:1])
    return [pack_record(condemned), pack_record(done)]


def read_collection_of(data: bytes) -> object:
    try:
        return read_collection(data, condemned_name(samples.VOLUME, 3), REPOSITORY)
    except RepositoryFormatError:
        return read_collection(data, done_name(samples.VOLUME, 3), REPOSITORY)


def collection_objects() -> list[bytes]:
    """Return whole objects without their tags."""
    key = samples.lab().keys.source.hash_key
    found = [read_collection_of(plain) for plain in collections()]
    return [pack_collection(record, key)[:-32] for record in found]


def open_collection(data: bytes) -> object:
    key = samples.lab().keys.source.hash_key
    data += object_tag("collections", key, data)
    return unpack_collection(data, condemned_name(samples.VOLUME, 3), REPOSITORY, key)


def _records() -> dict[str, object]:
    rows = BadRows(np.array([3, 4], dtype=np.uint64), np.array([7, 9], dtype=np.uint64),
                   np.arange(32, dtype=np.uint8).reshape(2, 16))  # fmt: skip
    bad_name = record_name(samples.VOLUME, "202601", 5, "0" * 8, "bad")
    bad = bad_pack_record(samples.pack_refs()[0], rows, "it is damaged", time_us=5, newest_seq=4)
    return {
        record_name(samples.VOLUME, "202601", 5, "0" * 8, "ok"): OkRecord((Checked(5, ("a",)),)),
        bad_name: bad,
        bad_name.replace(".bad", ".healed"): HealedRecord(bad_name, 6),
    }


def records() -> list[bytes]:
    return [pack_record(record) for record in _records().values()]


def read_records(data: bytes) -> object:
    """Read a volume's records, one of which a hostile writer made."""
    source, store = samples.lab().keys.source, MemoryObjects()
    for name in _records():
        forged = seal_record(msgspec.Raw(data), name, source.repository_id, source.hash_key)
        store.objects[name] = forged
    records_ = CheckRecords(store, source, samples.VOLUME)
    told, wanted = records_.read(), records_.wanted()
    assert set(told.problems) | set(told.bad) <= set(store.objects)
    records_.join(told.checked, time_us=7, at_least=1)
    return told, wanted
