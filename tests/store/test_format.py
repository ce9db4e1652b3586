"""FORMAT.md is exact: a reader that knows only that page restores every point."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from blocksnapd.store.files import LocalStore
from blocksnapd.store.keys import KdfCost, pack_restore
from blocksnapd.store.pack_format import PackIndex, unpack_tail
from blocksnapd.store.point_span import PointSpan
from blocksnapd.store.runs import Runs, expand
from blocksnapd.store.seal import Scope
from blocksnapd.store.tables import read_table
from tests.store import independent_reader
from tests.store.support import VOLUME, Lab

READER = independent_reader.__file__


@pytest.fixture
def lab(tmp_path, monkeypatch) -> Lab:
    """A directory with points of every shape: full, delta, inline, many packs, grown, shrunk."""
    monkeypatch.setattr("blocksnapd.store.pack_writer.BATCH_SIZE", 65536)
    monkeypatch.setattr("blocksnapd.store.pack_writer.PACK_SIZE_TARGET", 100_000)
    monkeypatch.setattr("blocksnapd.store.sink.INLINE_SIZE_MAX", 40_000)
    lab = Lab(store=LocalStore(str(tmp_path)), blocks=120)
    lab.write(range(5, 100), noise=True)
    lab.zero(range(40, 60))
    lab.commit()
    lab.commit(lab.write([0, 7, 8, 9, 50, 119]))
    lab.commit(lab.zero([8, 50, 51, 119]))
    lab.commit(lab.write(range(0, 120, 2), noise=True))
    lab.resize(100 * 4096 + 512)
    lab.commit(lab.write([100]))
    lab.resize(130 * 4096)
    lab.commit(lab.write([125]))
    return lab


def test_the_independent_reader_restores_every_point(lab, tmp_path):
    keys = independent_reader.Keys(pack_restore(lab.keys))
    for point, image in lab.kept:
        assert independent_reader.restore(tmp_path, keys, point.name) == image


def test_the_independent_reader_runs_as_a_program(lab, tmp_path):
    key, out = tmp_path / "restore.key", tmp_path / "out"
    key.write_bytes(pack_restore(lab.keys))
    point, image = lab.kept[-1]
    subprocess.run(
        [sys.executable, READER, str(tmp_path), str(key), point.name, str(out)], check=True
    )
    assert out.read_bytes() == image


def test_the_independent_reader_opens_a_sealed_key(lab):
    cost = KdfCost(memory_kib=64, iterations=1, lanes=1)
    keys = independent_reader.Keys(pack_restore(lab.keys, "open sesame", cost), "open sesame")
    assert keys.data == lab.keys.data_private
    assert keys.hash == lab.keys.source.hash_key


def test_the_independent_reader_shares_nothing_and_is_short():
    text = Path(READER).read_text(encoding="utf-8")
    imported = {
        name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else
                     [alias.name for alias in node.names])
    }  # fmt: skip
    assert not any(name.startswith("blocksnapd") for name in imported)
    assert len(text.splitlines()) <= 150


def test_layers_can_be_built_again_from_packs_alone(lab):
    """What a point says of its content and zeros stands in its packs' indexes, too."""
    for point, _ in lab.kept[:4]:
        loaded = lab.reader._reader().load(point.name)
        layer = PointSpan(loaded).runs(0, loaded.object.header.blocks)
        packs = [_index(lab, place) for place in loaded.places()]
        blocks = [b for pack in packs for b in _blocks(pack.blocks)]
        assert blocks == expand(layer.content())[0].tolist()
        zeros = [b for pack in packs for b in _blocks(read_table(pack.zeros, located=False))]
        if packs:
            assert zeros == [b for b in _blocks(layer) if b not in set(blocks)]
        assert all(pack.point_id == point.facts.point_id for pack in packs)


def test_the_tree_is_as_the_page_says(lab, tmp_path):
    found = {
        os.path.relpath(os.path.join(folder, name), tmp_path)
        for folder, _, names in os.walk(tmp_path)
        for name in names
    }
    objects = set(lab.store.list_names("v/"))
    assert found - objects == {"repo.json", f"v/{VOLUME}/.lock"}
    assert all(name.split("/")[2] in ("p", "d") for name in objects)


def _index(lab: Lab, place) -> PackIndex:
    ref = place.ref
    start = place.offset + ref.size - ref.tail_size
    tail = lab.store.get_range(place.holder, start, ref.tail_size)
    scope = Scope(lab.keys.source.repository_id, VOLUME, ref.name)
    return unpack_tail(tail, scope, lab.keys.metadata_private)[0]


def _blocks(runs: Runs) -> list[int]:
    spans = zip(runs.starts.tolist(), runs.lengths.tolist(), strict=True)
    return [start + n for start, length in spans for n in range(length)]
