"""Merging: images stay what they were, through fewer layers; no entry is lost unnoticed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blocksnapd.errors import (
    CancelledRunError,
    ChecksumError,
    RepositoryFormatError,
    StoreFullError,
)
from blocksnapd.maintain import merge as merge_module
from blocksnapd.maintain.merge import merge
from blocksnapd.maintain.spans import due, wanted
from blocksnapd.store import layer_writer, stack, tables
from blocksnapd.store.layer_format import pack_part
from blocksnapd.store.names import layers_prefix
from blocksnapd.store.runs import Runs, overlay_all
from blocksnapd.store.stack import Stack
from tests.maintain.merged_lab import MergedLab
from tests.store.support import BLOCK, VOLUME


@pytest.fixture
def small(monkeypatch) -> None:
    """Let everything have borders: packs of their own, parts of three runs, windows of five."""
    monkeypatch.setattr("blocksnapd.store.sink.INLINE_SIZE_MAX", 0)
    monkeypatch.setattr(layer_writer, "PART_RUNS_MAX", 3)
    monkeypatch.setattr(merge_module, "MERGE_RUNS_MAX", 5)
    monkeypatch.setattr(tables, "RUNS_PER_PART_MAX", 4)
    monkeypatch.setattr(stack, "WINDOW_RUNS_MAX", 6)


def grown(points: int, *, seed: int = 3, blocks: int = 40) -> MergedLab:
    lab, rng = MergedLab(blocks=blocks), np.random.default_rng(seed)
    lab.write(range(0, blocks, 2))
    lab.commit()
    for _ in range(points - 1):
        lab.live(rng)
    return lab


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(0, 1 << 32), st.data())
def test_images_are_the_same_through_merged_layers(small, seed, data):
    """Points come, some expire and their objects go; merging has any budget at any time."""
    rng, lab = np.random.default_rng(seed), MergedLab(blocks=30)
    lab.write(range(0, 30, 3))
    lab.commit()
    gone: set[int] = set()
    for _ in range(data.draw(st.integers(1, 22))):
        lab.live(rng, full=bool(rng.random() < 0.05))
        step = data.draw(st.sampled_from(["", "", "", "merge", "some", "expire"]))
        if step == "expire" and len(lab.kept) > 2:
            seqs = [point.seq for point, _ in lab.kept[:-1]]
            picked = set(rng.choice(seqs, len(seqs) // 2, replace=False).tolist())
            gone |= {lab.kept[[p.seq for p, _ in lab.kept].index(s)][0].name for s in picked}
            lab.expire(picked)
        if step:
            done = lab.maintain(budget=700 if step == "some" else 1 << 30)
            assert done.problems == ()
            if not done.left:
                for name in gone:  # as collecting does
                    lab.store.delete(name)
    assert not lab.maintain().left
    assert not due(lab.look()[1], lab.layers())
    lab.check_all()
    for point, _ in lab.kept:
        assert lab.reader.open_image(point).depth <= 3 * ((point.seq.bit_length() + 1) // 2)


def test_every_layer_says_what_its_points_say():
    """Each merged layer laid over the older image gives the newer one: places and all."""
    lab = grown(30)
    lab.maintain()
    spans = lab.spans()
    assert {(ref.from_seq, ref.to_seq) for ref in lab.layers()} == {
        (w.from_seq, w.to_seq) for w in wanted(lab.look()[1])
    }
    for ref in lab.layers():
        merged = Stack(spans, ref.from_seq, ref.to_seq)
        assert merged.depth == 1
        bodies = MergedLab.spans(lab)
        for other in lab.layers():
            bodies.discard(bodies.chain(other.from_seq, other.to_seq)[-1], ChecksumError("unused"))
            if other == ref:
                break
        apart = Stack(bodies, ref.from_seq, ref.to_seq)
        end = 1 << 40
        assert described(merged, merged.runs(0, end)) == described(apart, apart.runs(0, end))
        assert merged.head.blocks == apart.head.blocks
        assert merged.head.floor == apart.head.floor


def described(of: Stack, runs: Runs) -> list[tuple[int, str, int]]:
    found = []
    for start, length, location in zip(
        runs.starts.tolist(), runs.lengths.tolist(), runs.locations.tolist(), strict=True
    ):
        pack, slot = location >> 32, location & 0xFFFFFFFF
        is_zero = location == 2**64 - 1
        name = "zeros" if is_zero else of.places[pack].ref.name
        found += [(start + n, name, 0 if is_zero else slot + n) for n in range(length)]
    return found


def test_inline_packs_are_found_through_layers():
    lab = grown(20)
    lab.maintain()
    assert all(ref.holder for ref in places_of(lab))
    lab.check_all()


def places_of(lab: MergedLab) -> list:
    last = Stack(lab.spans(), 0, 16)
    last.runs(0, 1 << 40)
    return [
        merge_module.msgspec.structs.replace(place.ref, holder=place.holder)
        for place in last.places
        if place.holder != place.ref.name
    ]


@pytest.mark.parametrize("number", [1, 2])
def test_no_layer_makes_a_claim_from_the_size_that_a_damaged_point_is_listed_with(number):
    """It is that of the point before, or none: what the layer does not tell would be zero."""
    lab = MergedLab(blocks=10)
    lab.write(range(10))
    lab.commit()
    lab.resize(40 * BLOCK)
    lab.commit(lab.write(range(10, 40)))
    lab.commit(lab.write([3]))
    lab.commit(lab.write([5]))
    name = lab.kept[number - 1][0].name
    whole = lab.store.objects[name]
    lab.store.objects[name] = whole[:20] + bytes([whole[20] ^ 1]) + whole[21:]
    ref = merge(lab.store, lab.key, lab.spans(), number, 4)
    lab.store.objects[name] = whole
    spans = lab.spans()
    spans.add(ref)
    merged, apart = Stack(spans, 0, 4), Stack(lab.spans(), 0, 4)
    assert (merged.depth, merged.chain[-1].name) == (number + 1, ref.name)
    assert described(merged, merged.runs(0, 40)) == described(apart, apart.runs(0, 40))


def test_a_budget_is_kept_and_the_rest_follows():
    lab = grown(17)
    first = lab.maintain(budget=1)
    assert (len(first.made), first.left) == (1, 4)
    rounds = 1
    while lab.maintain(budget=1).left:
        rounds += 1
    assert rounds == 4
    lab.check_all()
    assert lab.maintain().made == ()


def test_cancelling_keeps_what_was_made(monkeypatch):
    lab = grown(17)
    asked = []
    done = lab.maintain(cancelled=lambda: asked.append(1) or len(asked) > 4)
    assert 0 < len(done.made) < 5
    assert done.left == 5 - len(done.made)
    lab.check_all()
    with pytest.raises(CancelledRunError):
        merge(lab.store, lab.key, lab.spans(), 0, 16, cancelled=lambda: True)
    assert len(lab.store.list_names(layers_prefix(VOLUME))) == len(done.made)


def test_a_full_disk_stops_merging_and_what_was_made_counts():
    lab = grown(17)
    loaded, points = lab.look()
    lab.store.room = sum(map(len, lab.store.objects.values()))
    with pytest.raises(StoreFullError):
        merge_module.merge_due(lab.store, lab.key, loaded, points, budget=1 << 30)
    lab.store.room += 3000
    done = merge_module.merge_due(lab.store, lab.key, loaded, points, budget=1 << 30)
    assert 0 < len(done.made) < 5
    assert "no room" in done.problems[0]


@pytest.mark.parametrize("fault", ["lose", "double", "move", "swap"])
def test_an_entry_lost_doubled_or_changed_stops_the_merge(monkeypatch, fault):
    lab = grown(5)
    before = sorted(lab.store.objects)

    def faulty(newest_first):
        runs, hidden = overlay_all(newest_first)
        content = np.flatnonzero(runs.locations != np.uint64(2**64 - 1))
        at, other = content[3], content[5]
        locations, starts = runs.locations.copy(), runs.starts.copy()
        if fault == "lose":
            return runs.take(np.arange(len(runs)) != at), hidden
        if fault == "double":
            return runs.take(np.sort(np.append(np.arange(len(runs)), at))), hidden
        if fault == "move":
            starts[at] += np.uint64(1 << 20)
        else:
            locations[[at, other]] = locations[[other, at]]
        return Runs(starts, runs.lengths, locations), hidden

    monkeypatch.setattr(stack, "overlay_all", faulty)
    with pytest.raises((ChecksumError, RepositoryFormatError)):
        merge(lab.store, lab.key, lab.spans(), 0, 4)
    assert sorted(lab.store.objects) == before


def test_a_fault_in_the_bytes_stops_the_merge(monkeypatch):
    lab = grown(5)

    def faulty(runs: Runs) -> bytes:
        content = np.flatnonzero(runs.locations != np.uint64(2**64 - 1))
        locations = runs.locations.copy()
        locations[content[0]] ^= np.uint64(1)
        return pack_part(Runs(runs.starts, runs.lengths, locations))

    monkeypatch.setattr(layer_writer, "pack_part", faulty)
    with pytest.raises(ChecksumError, match="does not add up") as caught:
        merge(lab.store, lab.key, lab.spans(), 0, 4)
    assert "report" in caught.value.hint
    assert lab.store.list_names(layers_prefix(VOLUME)) == []


def test_damage_hidden_in_a_layer_does_not_spread(monkeypatch):
    """A layer whose entries are not those its writer counted is found when it is merged."""
    lab = grown(17)
    lab.maintain(budget=1)
    monkeypatch.setattr("blocksnapd.store.layer_reader.LayerReader.total", lambda _self: 12345)
    loaded, points = lab.look()
    done = merge_module.merge_due(lab.store, lab.key, loaded, points, budget=1 << 30)
    assert any("what was read of" in problem for problem in done.problems)
    assert (0, 16) not in {(ref.from_seq, ref.to_seq) for ref in done.made}


def test_a_damaged_layer_is_done_without_and_made_anew():
    lab = grown(16)
    lab.maintain()
    victim = next(ref for ref in lab.layers() if (ref.from_seq, ref.to_seq) == (4, 8))
    base = next(ref for ref in lab.layers() if (ref.from_seq, ref.to_seq) == (0, 16))
    data = bytearray(lab.store.objects[victim.name])
    data[3] ^= 1
    lab.store.objects[victim.name] = bytes(data)
    lab.check_all()
    image = lab.reader.open_image(lab.kept[7][0])
    image.read_into(0, memoryview(bytearray(BLOCK)))
    assert victim.name in image.problems[0]
    assert image.depth > 2
    done = lab.maintain(distrusted={victim.name, base.name})
    made = {(ref.from_seq, ref.to_seq) for ref in done.made}
    assert made == {(4, 8), (0, 16)}
    assert {ref.name for ref in done.dropped} == {victim.name, base.name}
    lab.store.delete(victim.name)
    lab.store.delete(base.name)
    lab.check_all()
    assert lab.reader.open_image(lab.kept[15][0]).depth == 1


def test_a_layer_damaged_among_the_inputs_is_replaced_by_points():
    lab = grown(15)
    lab.maintain()
    victim = next(ref for ref in lab.layers() if (ref.from_seq, ref.to_seq) == (4, 8))
    data = bytearray(lab.store.objects[victim.name])
    data[3] ^= 1
    lab.store.objects[victim.name] = bytes(data)
    lab.live(np.random.default_rng(1))
    done = lab.maintain()
    assert {(ref.from_seq, ref.to_seq) for ref in done.made} == {(12, 16), (0, 16)}
    assert any(victim.name in problem for problem in done.problems)
    lab.check_all()


def test_without_what_is_needed_other_layers_are_made_still(monkeypatch):
    """Point 6 is lost: 4-8 and all above cannot be made, the others can."""
    lab = grown(17)
    lost = lab.kept[5][0].name
    loaded, points = lab.look()
    lab.store.delete(lost)
    done = merge_module.merge_due(lab.store, lab.key, loaded, points, budget=1 << 30)
    assert {(ref.from_seq, ref.to_seq) for ref in done.made} == {(0, 4), (8, 12), (12, 16)}
    assert done.left == 2
    assert any(lost in problem for problem in done.problems)


def test_blocks_past_16_tib_are_merged():
    lab = MergedLab(blocks=8)
    lab.write(range(8))
    size, far = 64 << 40, [2**32 - 1, 2**32, 2**34 - 1]
    for number in range(1, 6):
        sink = lab.sink(number)
        blocks = np.array([number, *far], dtype=np.uint64)
        rows = [0, 1, 2, number]
        sink.add(blocks, lab.hashes(rows), memoryview(lab.image[rows].tobytes()))
        sink.add_zeros(np.array([2**33], np.uint64), np.array([2**32], np.uint64))
        lab.size = size
        lab.state_sum = lambda: 0
        kind = "delta" if number > 1 else "full"
        if number == 1:
            from blocksnapd.blocks import state_sum

            total = state_sum(blocks, lab.hashes(rows))
            lab.state_sum = lambda total=total: total
        lab.kept.append((sink.commit(lab.facts(kind, number)), b""))
    lab.maintain()
    assert [(ref.from_seq, ref.to_seq) for ref in lab.layers()] == [(0, 4)]
    image = lab.reader.open_image(lab.kept[3][0])
    assert image.depth == 1
    view = bytearray(BLOCK)
    for block, row in ((2**34 - 1, 4), (2**32, 2), (2**32 - 1, 1), (3, 0)):
        image.read_into(block * BLOCK, memoryview(view))
        assert view == lab.image[row].tobytes()
    assert image.data_extents().ends.tolist()[-1] == size


def test_a_distrusted_layer_stays_until_there_is_another():
    """Its points have expired: nothing else tells what it does, and it may only have been busy."""
    lab = grown(15)
    lab.maintain()
    lab.expire({5, 6, 7})
    lab.maintain()
    victim = next(ref for ref in lab.layers() if (ref.from_seq, ref.to_seq) == (4, 8))
    for point in (5, 6, 7):
        lab.store.delete(next(n for n in lab.store.list_names("v/") if f"/p/{point:016x}-" in n))
    done = lab.maintain(distrusted={ref.name for ref in lab.layers()})
    assert victim in done.layers
    assert done.problems
    assert lab.spans().chain(0, 8)
