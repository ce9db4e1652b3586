"""The decoders under test: for each valid samples, how to call it, and how much memory it may take.

A decoder takes bytes and returns anything. Around it nothing is caught: what it raises beyond
``BlocksnapError`` is a finding.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING
from unittest.mock import patch

import msgspec
import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from blocksnapd.store import keys, names
from blocksnapd.store.columns import pack_column, unpack_column
from blocksnapd.store.compression import compress, decompress_exact
from blocksnapd.store.frames import FrameCodec
from blocksnapd.store.manifest_format import Manifest, read_manifest
from blocksnapd.store.pack_format import FOOTER_SIZE, read_index, unpack_footer, unpack_tail
from blocksnapd.store.point_format import unpack_header, unpack_point
from blocksnapd.store.records import pack_record, unpack_record
from blocksnapd.store.repo_file import unpack_repository
from blocksnapd.store.runs import Runs
from blocksnapd.store.seal import Scope, point_tag
from blocksnapd.store.tables import RunsPart, pack_table, read_table
from tests.fuzz import maintenance, samples

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1 << 20
COLUMN = 3000  # values in the columns that are fuzzed
RUN_COST = 200  # bytes of arrays for each run while a table is read
PART_RUNS = 65536  # runs that one part of a table may claim in a few bytes
PART_SIZE_MIN = 24  # a part's map cannot be smaller


@dataclass(frozen=True)
class Decoder:
    """One of them; ``memory`` tells how many bytes it may take for an input of a size."""

    name: str
    samples: Callable[[], list[bytes]]
    decode: Callable[[bytes], object]
    memory: Callable[[int], int] = lambda size: MIB + 64 * size


def tables_memory(size: int) -> int:
    """Return what tables may take: each part claims up to ``PART_RUNS`` runs in a few bytes."""
    return 2 * MIB + PART_RUNS * RUN_COST * (1 + size // PART_SIZE_MIN)


def all_decoders() -> dict[str, Decoder]:
    """Return every decoder by its name."""
    return {decoder.name: decoder for decoder in _ALL}


def _key_files() -> list[bytes]:
    made = samples.lab().keys
    sealed = keys.pack_restore(made, "golden", keys.KdfCost(8, 1, 1))
    return [keys.pack_source(made.source), keys.pack_maintenance(made), keys.pack_restore(made),
            sealed]  # fmt: skip


def _key_file(unpack: Callable[..., object], *rest: str) -> Callable[[bytes], object]:
    def decode(data: bytes) -> object:
        # A passphrase costs what the file says, within limits of up to a GiB: lower here.
        with patch.multiple(keys, MEMORY_KIB_MAX=64, ITERATIONS_MAX=2, LANES_MAX=2):
            return unpack(data, *rest)

    return decode


def _name(data: bytes) -> object:
    text = data.decode("utf-8", "replace")
    found = []
    for parse in (names.parse_point_name, names.parse_layer_name, names.parse_manifest_name,
                  names.parse_collection_name, names.check_name, names.check_volume_id,
                  names.check_point_id):  # fmt: skip
        try:
            found.append(parse(text))
        except names.RepositoryFormatError:
            continue
        except names.UsageError:
            continue
    return found


_OF_FILES = (
    Decoder("repo.json", lambda: [samples.lab().store.objects["repo.json"]], unpack_repository),
    Decoder("source.key", _key_files, _key_file(keys.unpack_source)),
    Decoder("maintenance.key", _key_files, _key_file(keys.unpack_maintenance)),
    Decoder("restore.key", _key_files, _key_file(keys.unpack_restore, "golden")),
    Decoder("names", lambda: [n.encode() for n in samples.lab().store.objects], _name),
)


def _points() -> list[bytes]:
    return [samples.point(number)[1][:-32] for number in range(4)]


def _header(data: bytes) -> object:
    name, _ = samples.point(1)
    header, _ = unpack_header(data, name, samples.lab().keys.source.repository_id)
    return header.head("0" * 64)


def _point(data: bytes) -> object:
    # Tagged again, as a writer can who holds the hash key.
    source = samples.lab().keys.source
    tagged = data + point_tag(source.hash_key, data)
    found = unpack_point(tagged, samples.point(1)[0], source.repository_id, source.hash_key)
    return found.head


_OF_POINTS = (
    Decoder("point-header", _points, _header),
    Decoder("point", _points, _point),
    Decoder(
        "point-body", lambda: [samples.plain_body(n) for n in range(4)], samples.open_forged_point,
        lambda size: 8 * MIB + tables_memory(size),
    ),
)  # fmt: skip


def _tails() -> list[bytes]:
    return [samples.pack_tail(number) for number in range(len(samples.packs()))]


def _scope(number: int = 0) -> Scope:
    repository_id = samples.lab().keys.source.repository_id
    return Scope(repository_id, samples.VOLUME, samples.packs()[number][0])


def _tail(data: bytes) -> object:
    return unpack_tail(data, _scope(), samples.lab().keys.metadata_private)


@cache
def _footer() -> object:
    return unpack_footer(_tails()[0], _scope())


def _index(data: bytes) -> object:
    index = read_index(data, _footer(), "the pack")
    return [index.frame_size(frame) for frame in range(len(index.offsets) - 1)]


def _repacked_index(data: bytes) -> object:
    _, footer, name = samples.repacked()
    index = read_index(data, footer, name, samples.VOLUME)
    return [index.frame_size(frame) for frame in range(len(index.offsets) - 1)]


_OF_PACKS = (
    Decoder("pack-footer", lambda: [t[-FOOTER_SIZE:] for t in _tails()],
            lambda data: unpack_footer(data, _scope())),
    Decoder("pack-tail", _tails, _tail),
    Decoder("pack-index", lambda: [samples.plain_index(0)], _index, tables_memory),
    Decoder("repacked-index", lambda: [samples.repacked()[0]], _repacked_index, tables_memory),
)  # fmt: skip

_FRAME_KEY = bytes(range(32))


def _frame(data: bytes) -> object:
    scope = Scope("0" * 32, "vol", "pack")
    sealed = AESGCM(_FRAME_KEY).encrypt(bytes(12), data, scope.binding("frame") + b"\0" + b"0")
    return FrameCodec(scope, _FRAME_KEY).open(0, memoryview(sealed), 65536)


def _columns() -> list[bytes]:
    rng = np.random.default_rng(1)
    return [pack_column(rng.integers(0, top, COLUMN, dtype=np.uint64))
            for top in (1, 200, 70_000, 1 << 40, 1 << 63)]  # fmt: skip


def _runs() -> Runs:
    starts = np.arange(10, 8000, 7, dtype=np.uint64)
    return Runs(starts, starts % np.uint64(5) + np.uint64(1), starts + np.uint64(1 << 33))


def _tables() -> list[bytes]:
    return [msgspec.msgpack.encode(pack_table(_runs(), located=located))
            for located in (True, False)]  # fmt: skip


def _table(data: bytes) -> object:
    parts = unpack_record(data, list[RunsPart], "the table")
    for located in (True, False):
        try:
            runs = read_table(parts, located=located)
        except names.RepositoryFormatError:
            continue
        assert len(runs) == sum(part.n for part in parts)
        assert (runs.ends > runs.starts).all()
    return parts


def _manifest(data: bytes) -> object:
    return read_manifest(data, "the manifest", samples.VOLUME)


_OF_PARTS = (
    Decoder("frame", lambda: [compress(bytes(65536)), b"raw" * 21845 + b"."], _frame),
    Decoder("zstd", lambda: [compress(b"abc" * 999)], lambda data: decompress_exact(data, 2997)),
    Decoder("column", _columns, lambda data: unpack_column(data, COLUMN)),
    Decoder("table", _tables, _table, tables_memory),
    Decoder("manifest", lambda: [pack_record(Manifest()), samples.plain_manifest()], _manifest),
    Decoder(
        "manifest-used",
        lambda: [pack_record(Manifest()), samples.plain_manifest()],
        samples.use_forged_manifest,
        lambda size: 16 * MIB + 64 * size,
    ),
)

_OF_LAYERS = (
    Decoder("layer-footer", maintenance.footers, maintenance.read_footer),
    Decoder("layer-tail", maintenance.tails, maintenance.read_tail),
    Decoder("layer-directory", maintenance.directories, maintenance.read_directory_of),
    Decoder("layer-part", maintenance.parts, maintenance.read_part_of,
            lambda size: 8 * MIB + 64 * size),
    Decoder("pack-table", maintenance.pack_tables, maintenance.read_pack_table),
)  # fmt: skip

_OF_MAINTENANCE = (
    Decoder("collection", maintenance.collections, maintenance.read_collection_of),
    Decoder("collection-object", maintenance.collection_objects, maintenance.open_collection),
    Decoder("records", maintenance.records, maintenance.read_records, tables_memory),
)

_ALL = (*_OF_FILES, *_OF_POINTS, *_OF_PACKS, *_OF_PARTS, *_OF_LAYERS, *_OF_MAINTENANCE)
