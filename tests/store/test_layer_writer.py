"""Writing layers: bytes come as soon as a part is full; what was packed is what is counted."""

from __future__ import annotations

import numpy as np
import pytest

from blocksnapd.errors import RepositoryFormatError
from blocksnapd.store import layer_writer
from blocksnapd.store.entry_sum import entry_sum
from blocksnapd.store.layer_format import PART_RUNS_MAX, pack_part
from blocksnapd.store.layer_writer import LayerWriter
from blocksnapd.store.runs import Runs
from blocksnapd.store.seal import Scope
from tests.store.layer_objects import HEAD, NAME, VOLUME, Layers, pack_ref
from tests.store.test_layer_reader import scattered

WEIGHTS = np.array([3], dtype=np.uint64)


@pytest.fixture
def writer() -> LayerWriter:
    source = Layers().keys.source
    return LayerWriter(Scope(source.repository_id, VOLUME, NAME), HEAD, source.metadata_public)


def test_parts_leave_as_they_get_full(writer):
    assert writer.add(scattered(PART_RUNS_MAX - 1), WEIGHTS) == []
    more = scattered(2 * PART_RUNS_MAX, first=10 * PART_RUNS_MAX)
    assert len(writer.add(more, WEIGHTS)) == 2
    assert writer.entries == 3 * PART_RUNS_MAX - 1
    rest, ref = writer.finish([pack_ref(0)], WEIGHTS)
    assert len(rest) == 3  # a part, a box of packs, the tail
    assert ref.tail_size == len(rest[-1])
    assert writer.add(Runs.empty(), WEIGHTS) == []


def test_the_check_is_that_of_the_runs(writer):
    runs = scattered(PART_RUNS_MAX + 5)
    writer.add(runs, WEIGHTS)
    writer.finish([pack_ref(0)], WEIGHTS)
    assert writer.check == entry_sum(runs, WEIGHTS)


def test_a_fault_between_runs_and_bytes_shows(writer, monkeypatch):
    runs = scattered(9)
    moved = runs.locations.copy()
    moved[4] += np.uint64(1)
    monkeypatch.setattr(
        layer_writer, "pack_part", lambda r: pack_part(Runs(r.starts, r.lengths, moved))
    )
    writer.add(runs, WEIGHTS)
    writer.finish([pack_ref(0)], WEIGHTS)
    assert writer.check != entry_sum(runs, WEIGHTS)


def test_a_lost_run_is_refused_at_once(writer, monkeypatch):
    monkeypatch.setattr(
        layer_writer, "pack_part", lambda r: pack_part(r.take(np.arange(len(r)) != 3))
    )
    writer.add(scattered(9), WEIGHTS)
    with pytest.raises(RepositoryFormatError, match="does not have 9 runs"):
        writer.finish([pack_ref(0)], WEIGHTS)
