"""A point's own layer by pieces: any window equals the checked whole; bad tables are refused."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blocksnapd.errors import RepositoryFormatError
from blocksnapd.store import tables
from blocksnapd.store.entry_sum import entry_sum, pack_weight
from blocksnapd.store.point_reader import LoadedPoint, PointReader
from blocksnapd.store.point_span import PointSpan, PointTables
from blocksnapd.store.tables import RunsPart, pack_table
from tests.store.support import Lab
from tests.store.test_runs import build, model
from tests.store.walking import check_layer

if TYPE_CHECKING:
    from blocksnapd.store.runs import Runs

place = st.one_of(st.none(), st.integers(0, 20))
some_runs = st.lists(st.tuples(st.integers(0, 4), st.integers(1, 3), place), max_size=20).map(build)


@pytest.fixture(scope="module")
def loaded() -> LoadedPoint:
    """Return a delta of an image with 200 blocks, with one pack of 30."""
    lab = Lab(blocks=200)
    lab.commit()
    lab.commit(lab.write(range(30)))
    reader = PointReader(lab.store, lab.keys.source, lab.keys)
    return reader.load(lab.kept[1][0].name)


def point_of(loaded: LoadedPoint, runs: Runs, zeros: Runs | None = None) -> LoadedPoint:
    """Return the point with another layer."""
    is_zero = runs.locations == np.uint64(2**64 - 1)
    body = msgspec.structs.replace(
        loaded.body, data=pack_table(runs.take(~is_zero), located=True),
        zeros=pack_table(runs.take(is_zero) if zeros is None else zeros, located=False),
    )  # fmt: skip
    return dataclasses.replace(loaded, body=body)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(some_runs, st.lists(st.integers(0, 150), max_size=6))
def test_a_window_is_the_whole_cut(loaded, monkeypatch, runs, windows):
    monkeypatch.setattr(tables, "RUNS_PER_PART_MAX", 3)
    point = point_of(loaded, runs)
    span, whole = PointSpan(point), check_layer(point.object.header, point.body)
    assert model(span.runs(0, 1 << 40)) == model(whole.runs) == model(runs)
    for first, length in itertools.pairwise(windows):
        cut = runs.cut(first, first + length)
        assert model(span.runs(first, first + length)) == model(cut)
    weights = np.array([pack_weight(ref.name) for ref in point.body.packs], dtype=np.uint64)
    assert span.total() == entry_sum(runs, weights)
    begins, ends, counts = span.marks()
    assert int(counts.sum()) == len(runs)
    assert (begins[1:] >= begins[:-1]).all()
    assert (ends > begins).all()


def test_its_head_is_what_the_point_says(loaded):
    span, header = PointSpan(loaded), loaded.object.header
    assert (span.head.from_seq, span.head.to_seq) == (1, 2)
    assert (span.head.from_digest, span.head.to_digest) == (
        header.prev_digest, loaded.object.digest,
    )  # fmt: skip
    assert (span.head.blocks, span.head.floor, span.packs) == (200, 200, 1)
    assert span.places(0) == (0, loaded.places())
    full = msgspec.structs.replace(header, kind="full")
    whole = dataclasses.replace(loaded, object=dataclasses.replace(loaded.object, header=full))
    assert PointSpan(whole).head.floor == 0


@pytest.mark.parametrize(
    "layer",
    [
        build([(0, 2, 29)]),  # past the end of the pack
        build([(0, 1, 1 << 32)]),  # no such pack
        build([(199, 2, 3)]),  # past the end of the image
        build([(300, 1, None)]),
    ],
)
def test_a_layer_that_cannot_be_is_refused(loaded, layer):
    with pytest.raises(RepositoryFormatError):
        PointSpan(point_of(loaded, layer)).runs(0, 1 << 40)


def test_content_and_zeros_of_one_block_are_refused(loaded):
    point = point_of(loaded, build([(4, 3, 0)]), build([(6, 1, None)]))
    with pytest.raises(RepositoryFormatError, match="overlaps"):
        PointSpan(point).runs(0, 200)


@pytest.mark.parametrize("firsts", [(9, 9), (9, 3), (-1, 5), (1 << 64, 5)])
def test_tables_that_do_not_ascend_are_refused(loaded, firsts):
    parts = [pack_table(build([(0, 1, None)]), located=False)[0] for _ in firsts]
    parts = [msgspec.structs.replace(p, first=f) for p, f in zip(parts, firsts, strict=True)]
    body = msgspec.structs.replace(loaded.body, zeros=parts)
    with pytest.raises(RepositoryFormatError, match="do not ascend"):
        PointSpan(dataclasses.replace(loaded, body=body))


def test_more_runs_than_the_image_has_blocks_are_refused_before_they_are_read(loaded):
    header = loaded.object.header
    parts = [RunsPart(65536, at * 65536, b"\0", b"\0") for at in range(30_000)]
    with pytest.raises(RepositoryFormatError, match="more runs than its image has blocks"):
        PointTables(header, msgspec.structs.replace(loaded.body, zeros=parts))
    fitting = [RunsPart(header.blocks - 1, 0, b"\0", b"\0")]
    PointTables(header, msgspec.structs.replace(loaded.body, data=[], zeros=fitting))


def test_parts_that_run_into_each_other_are_refused(loaded):
    parts = [pack_table(build([(at, 5, None)]), located=False)[0] for at in (0, 3)]
    body = msgspec.structs.replace(loaded.body, zeros=parts)
    with pytest.raises(RepositoryFormatError, match="do not ascend"):
        PointSpan(dataclasses.replace(loaded, body=body)).runs(0, 200)
