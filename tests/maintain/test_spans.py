"""Which layers there should be: enough for few at a time, each made of few, none too many."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocksnapd.maintain.spans import boundaries, due, replaced, unmerged, wanted
from blocksnapd.store.chains import Chains, Link
from blocksnapd.store.manifest_format import LayerRef, PointEntry
from blocksnapd.store.names import layer_name

if TYPE_CHECKING:
    from collections.abc import Iterable


def entry(seq: int, *, full: bool = False) -> PointEntry:
    kind = "full" if full or seq == 1 else "delta"
    return PointEntry(seq, f"p{seq:016x}", seq, 4096, kind, "tracked", "crash", 0, 0, 0)


def layer(a: int, b: int) -> LayerRef:
    return LayerRef(a, b, layer_name("v", a, b, "00000000"), 100, 50, bytes(32))


def chains(points: list[PointEntry], layers: Iterable[tuple[int, int]]) -> Chains:
    """Return what can be opened when every expired point is gone."""
    links = [Link(p.seq - 1, p.seq, f"p{p.seq}", p.kind == "full") for p in points]
    fulls = [p.seq for p in points if p.kind == "full"]
    links += [Link(a, b, f"{a}-{b}", any(a < f <= b for f in fulls)) for a, b in layers]
    return Chains(links)


def levels(seq: int) -> int:
    """Return how many levels there are up to a point."""
    return (seq.bit_length() + 1) // 2


histories = st.lists(
    st.tuples(st.sampled_from([1, 1, 1, 2, 3, 17, 300]), st.sampled_from([0] * 9 + [1])),
    min_size=1,
    max_size=70,
).map(
    lambda steps: [
        entry(sum(s for s, _ in steps[: n + 1]), full=bool(steps[n][1])) for n in range(len(steps))
    ]
)


@given(histories)
def test_every_listed_point_opens_through_few_layers(points):
    found = chains(points, [(w.from_seq, w.to_seq) for w in wanted(points)])
    for point in points:
        chain = found.shortest(0, point.seq)
        assert chain is not None
        assert len(chain) <= 3 * levels(point.seq)


@pytest.mark.parametrize("count", [1, 4, 17, 300])
def test_each_layer_is_made_of_few_that_come_before_it(count):
    every = [entry(seq) for seq in range(1, count + 1)]
    made: list[tuple[int, int]] = []
    for one in wanted(every):
        inputs = chains(every, made).shortest(one.from_seq, one.to_seq)
        assert inputs is not None
        assert 1 < len(inputs) <= 4
        made.append((one.from_seq, one.to_seq))


def test_ten_thousand_points_need_at_most_twenty_layers():
    points = [entry(seq) for seq in range(1, 10_001)]
    layers = wanted(points)
    assert len(layers) == sum(10_000 // 4**level for level in range(1, 7))
    found = chains(points, [(w.from_seq, w.to_seq) for w in layers])
    depths = [len(found.shortest(0, seq)) for seq in range(1, 10_001)]
    assert max(depths) == 19
    assert sum(depths) / len(depths) < 10


@given(histories)
def test_nothing_is_wanted_that_points_tell_alone(points):
    seqs, fulls = {0, *(p.seq for p in points)}, {p.seq for p in points if p.kind == "full"}
    found = wanted(points)
    assert len({(w.from_seq, w.to_seq) for w in found}) == len(found)
    for one in found:
        assert {one.from_seq, one.to_seq} <= seqs
        assert one.to_seq - one.from_seq > 1
        assert one.to_seq not in fulls


def test_boundaries_are_the_first_points_from_each_multiple_on():
    assert boundaries([1, 2, 3, 4, 5], 0) == [0, 1, 2, 3, 4, 5]
    assert boundaries([1, 2, 3, 4, 5, 9, 11, 12], 1) == [0, 4, 9, 12]
    assert boundaries([3, 40, 41], 2) == [0, 40]
    assert boundaries([], 1) == [0]


def test_a_gap_is_wanted_where_a_point_expired_and_not_before_a_full_one():
    points = [entry(1), entry(3), entry(7, full=True), entry(8)]
    assert [(w.from_seq, w.to_seq) for w in wanted(points)] == [(1, 3)]
    assert wanted([]) == []


@settings(max_examples=60)
@given(histories, st.data())
def test_what_is_replaced_is_missed_by_nobody(points, data):
    """Points expire; at any budget every listed point still opens, out of listed points' own."""
    before = [(w.from_seq, w.to_seq) for w in wanted(points)]
    kept = sorted(data.draw(st.sets(st.sampled_from(range(len(points))), min_size=1)))
    listed = [points[at] for at in kept]
    layers = [layer(a, b) for a, b in before]
    missing = due(listed, layers)
    # What is due is made of bodies that are there still, or of layers; then some expire.
    done = data.draw(st.integers(0, len(missing)))
    layers += [layer(w.from_seq, w.to_seq) for w in missing[:done]]
    old = replaced(listed, layers, missing[done:])
    left = [ref for ref in layers if ref not in old]
    ends = {(w.from_seq, w.to_seq) for w in wanted(listed)}
    assert all((ref.from_seq, ref.to_seq) not in ends for ref in old)
    if done == len(missing):
        found = chains(listed, [(ref.from_seq, ref.to_seq) for ref in left])
        assert all(found.shortest(0, point.seq) for point in listed)
        assert len(left) == len(ends)
    else:
        overlaps = [
            ref for ref in layers
            if any(m.from_seq < ref.to_seq and ref.from_seq < m.to_seq for m in missing[done:])
        ]  # fmt: skip
        assert set(overlaps) <= set(left)


def test_a_layer_that_is_there_twice_goes_once():
    points = [entry(seq) for seq in range(1, 5)]
    twice = [layer(0, 4), LayerRef(0, 4, layer_name("v", 0, 4, "00000001"), 1, 1, bytes(32))]
    assert replaced(points, twice, []) == twice[1:]
    assert due(points, twice) == []
    assert (unmerged(points, twice), unmerged(points, [])) == (0, 4)
    assert unmerged([*points, entry(5)], twice) == 1
