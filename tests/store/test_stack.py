"""Layers read as one: any window equals all of it cut, whatever lies in layers and what is lost."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blocksnapd.errors import ChecksumError, NotFoundError, StoreError
from blocksnapd.maintain import merge as merge_module
from blocksnapd.maintain.merge import merge
from blocksnapd.store import layer_writer, stack, tables
from blocksnapd.store.entry_sum import entry_sum, pack_weight
from blocksnapd.store.point_reader import PointReader
from blocksnapd.store.runs import ZERO, Runs
from blocksnapd.store.stack import Stack, open_point
from tests.maintain.merged_lab import MergedLab
from tests.store.support import BLOCK
from tests.store.test_runs import model
from tests.store.walking import walked


@pytest.fixture
def small(monkeypatch) -> None:
    """Let parts and windows have a few runs."""
    monkeypatch.setattr(layer_writer, "PART_RUNS_MAX", 3)
    monkeypatch.setattr(merge_module, "MERGE_RUNS_MAX", 5)
    monkeypatch.setattr(tables, "RUNS_PER_PART_MAX", 4)
    monkeypatch.setattr(stack, "WINDOW_RUNS_MAX", 6)
    monkeypatch.setattr(stack, "_STEP_RUNS", 3)
    monkeypatch.setattr(stack, "_STEP_RUNS_MAX", 8)


def grown(points: int, *, seed: int = 3, blocks: int = 40, resize: bool = True) -> MergedLab:
    lab, rng = MergedLab(blocks=blocks), np.random.default_rng(seed)
    lab.write(range(0, blocks, 2))
    lab.commit()
    for _ in range(points - 1):
        lab.live(rng, resize=resize)
    return lab


def named(of: Stack, runs: Runs) -> dict[int, tuple[str, int] | None]:
    """Return block -> (pack, slot), None for zeros."""
    return {
        block: None if at == ZERO else (of.places[at >> 32].ref.name, at & 0xFFFFFFFF)
        for block, at in model(runs).items()
    }


def test_zeros_from_the_floor_on_go_without_saying_also_in_a_run_that_begins_below(small):
    lab = grown(5, seed=1368046, blocks=20)
    lab.maintain(budget=1)
    found = Stack(lab.spans(), 1, 5)
    assert found.head.floor == 20
    runs, overlaid = found.runs(0, 54), found.account(0, 54)
    zeros = runs.take(runs.locations == ZERO)
    assert zeros.ends.max() == 20
    assert overlaid.runs.ends.tolist() == runs.ends.tolist()
    told = sum(given.blocks for given in overlaid.given)
    assert runs.blocks + sum(hidden.blocks for hidden in overlaid.hidden) == told


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(0, 1 << 32), st.integers(1, 20), st.data())
def test_any_window_is_the_whole_cut(small, seed, points, data):
    lab = grown(points, seed=seed, blocks=20)
    lab.maintain(budget=data.draw(st.sampled_from([1, 900, 1 << 30])))
    after = data.draw(st.integers(0, points - 1))
    found = Stack(lab.spans(), after, points)
    whole = named(found, found.runs(0, 1 << 40))
    windows = list(found.windows())
    assert windows[0][0] == 0
    assert windows[-1][1] >= found.head.blocks
    assert all(a[1] == b[0] for a, b in itertools.pairwise(windows))
    joined: dict = {}
    for first, end in windows:
        joined |= named(found, found.runs(first, end))
    assert joined == whole
    first = data.draw(st.integers(0, 60))
    end = first + data.draw(st.integers(1, 60))
    cut = {block: at for block, at in whole.items() if first <= block < end}
    assert named(found, found.runs(first, end)) == cut
    content = {block: at for block, at in cut.items() if at is not None}
    assert named(found, found.content(first, end)) == content
    if after == 0:
        reader = PointReader(lab.store, lab.keys.source, lab.keys)
        assert whole == walked(reader, lab.kept[-1][0].name)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(0, 1 << 32), st.integers(2, 12), st.data())
def test_accounts_add_up(small, seed, points, data):
    """Window by window: what all layers say, less what is hidden, is what is shown."""
    lab = grown(points, seed=seed, blocks=20)
    after = data.draw(st.integers(0, points - 1))
    found = Stack(lab.spans(), after, points)
    for first, end in found.windows():
        account = found.account(first, end)
        weights = np.array([pack_weight(p.ref.name) for p in found.places], dtype=np.uint64)
        given = sum(entry_sum(runs, weights) for runs in account.given)
        hidden = sum(entry_sum(runs, weights) for runs in account.hidden)
        shown = entry_sum(account.runs, weights)
        assert (given - hidden - shown) % (1 << 64) == 0
        assert named(found, account.runs) == named(found, found.runs(first, end))


def test_a_gap_laid_over_the_older_image_is_the_newer_one():
    """Sizes that shrink and grow between the two."""
    lab = grown(25, seed=9, blocks=30)
    lab.maintain()
    spans = lab.spans()
    for after, upto in ((1, 25), (3, 20), (7, 8), (16, 25), (0, 13)):
        images = [Stack(spans, 0, seq) for seq in (after, upto) if seq]
        gap = Stack(spans, after, upto)
        maps = [named(one, one.content(0, 1 << 40)) for one in images]
        newer, older = maps[-1], maps[0] if after else {}
        changed = named(gap, gap.runs(0, 1 << 40))
        kept = {b: at for b, at in older.items() if b < gap.head.floor}
        over = {b: at for b, at in (kept | changed).items() if at is not None}
        assert over == newer
        assert gap.head.blocks == images[-1].head.blocks


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1 << 32), st.data())
def test_layers_that_overlap_lead_across_lost_points(seed, data):
    """0-6 and 4-8 are all that is left, and give point 8: sizes and zeros, too."""
    points = 10
    lab = grown(points, seed=seed, blocks=20)
    upto = data.draw(st.integers(4, points))
    middle = data.draw(st.integers(2, upto - 1))
    begin = data.draw(st.integers(1, middle))
    spans, name = lab.spans(), lab.kept[upto - 1][0].name
    wanted = walked(PointReader(lab.store, lab.keys.source, lab.keys), name)
    layers = [merge(lab.store, lab.key, spans, *span) for span in ((0, middle), (begin, upto))]
    for point, _ in lab.kept[:upto]:
        lab.store.delete(point.name)
    spans = lab.spans()
    for layer in layers:
        spans.add(layer)
    found = Stack(spans, 0, upto)
    assert found.depth == 2
    content = {block: at for block, at in wanted.items() if at is not None}
    assert named(found, found.content(0, 1 << 40)) == content


def test_a_layer_that_breaks_in_the_middle_of_reading_is_replaced(small):
    lab = grown(17, resize=False)
    lab.maintain()
    found = Stack(lab.spans(), 0, 16)
    before = named(found, found.runs(0, 10))
    victim = next(ref for ref in lab.layers() if (ref.from_seq, ref.to_seq) == (0, 16))
    data = bytearray(lab.store.objects[victim.name])
    for at in range(0, victim.size - victim.tail_size, 20):
        data[at] ^= 1
    lab.store.objects[victim.name] = bytes(data)
    assert found.depth == 1
    fresh = Stack(lab.spans(), 0, 16)
    whole = named(fresh, fresh.runs(0, 1 << 40))
    assert {block: at for block, at in whole.items() if block < 10} == before
    assert fresh.depth == 4
    assert victim.name in fresh.problems[0]
    with pytest.raises(ChecksumError):
        Stack(lab.spans(), 0, 16).account(0, 1 << 40)


def test_without_any_layer_the_points_are_read():
    lab = grown(20)
    lab.maintain()
    for ref in lab.layers():
        lab.store.delete(ref.name)
    lab.check_all()
    image = lab.reader.open_image(lab.kept[-1][0])
    assert image.depth == 20
    assert len(image.problems) > 0


def test_a_damaged_manifest_is_passed_over_and_told():
    lab = grown(17)
    lab.maintain()
    lab.live(np.random.default_rng(4))
    lab.maintain()
    newest = lab.store.list_names("m/")[-1]
    data = lab.store.objects[newest]
    lab.store.objects[newest] = data[:-1] + bytes([data[-1] ^ 1])
    lab.check_all()
    image = lab.reader.open_image(lab.kept[-1][0])
    assert image.depth == 3
    assert newest in image.problems[0]


def test_what_nothing_tells_any_more_is_an_error():
    lab = grown(6)
    name = lab.kept[2][0].name
    lab.store.delete(name)
    reader = PointReader(lab.store, lab.keys.source, lab.keys)
    with pytest.raises((NotFoundError, StoreError)):
        open_point(lab.store, reader, lab.kept[5][0].name)
    with pytest.raises(NotFoundError, match="there is no point"):
        open_point(lab.store, reader, name)
    with pytest.raises(ChecksumError, match="another digest"):
        open_point(lab.store, reader, lab.kept[1][0].name, "0" * 64)
    loaded, found = open_point(lab.store, reader, lab.kept[1][0].name, lab.kept[1][0].digest)
    assert (loaded.point, found.depth) == (lab.kept[1][0], 2)


def test_many_points_that_nobody_merged_are_read_in_bounded_steps(monkeypatch):
    """Each has one part with runs all over the image: no step reads them all at once."""
    monkeypatch.setattr(stack, "_STEP_RUNS", 500)
    monkeypatch.setattr(stack, "_STEP_RUNS_MAX", 1000)
    lab = MergedLab(blocks=800)
    lab.write(range(0, 800, 2))
    lab.commit()
    for _ in range(30):
        lab.commit(lab.write(lab.rng.integers(0, 800, 50)))
    most = []

    def measured(newest_first):
        most.append(sum(map(len, newest_first)))
        return real(newest_first)

    real = stack.overlay_all
    monkeypatch.setattr(stack, "overlay_all", measured)
    image = lab.reader.open_image(lab.kept[-1][0])
    assert image.data_size() == int(lab.image.any(axis=1).sum()) * BLOCK
    assert image.depth == 31
    assert len(most) > 3
    assert max(most) <= 1000


def test_ten_thousand_layers_are_laid_over_each_other_in_reasonable_time():
    """Five weeks without maintenance: 10,000 points of 10 blocks each, all in one step."""
    rng, given = np.random.default_rng(9), []
    for number in range(10_000):
        blocks = np.unique(rng.integers(0, 1 << 28, 10)).astype(np.uint64)
        slots = np.arange(len(blocks), dtype=np.uint64) + np.uint64(number << 32)
        given.append(Runs(blocks, np.ones(len(blocks), dtype=np.uint64), slots))
    found, hidden = stack.overlay_all(given[::-1])
    assert found.blocks + hidden.blocks == sum(runs.blocks for runs in given)
    assert int(found.locations.max()) >> 32 == 9_999
