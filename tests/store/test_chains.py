"""Chains of spans: the fewest, within the bounds, against trying all."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.store.chains import Chains, Link


def link(a: int, b: int, *, whole: bool = False) -> Link:
    return Link(a, b, f"{a}-{b}", whole)


def fewest(links: list[Link], after: int, upto: int) -> int | None:
    """Return how many spans the shortest chain has, by trying them all."""
    best: dict[int, int] = {upto: 0}
    for seq in range(upto, after, -1):
        for one in links:
            if one.to_seq == seq and seq in best and one.from_seq >= after:
                end = after if one.is_whole else one.from_seq
                best[end] = min(best.get(end, 99), best[seq] + 1)
    return best.get(after)


pairs = st.tuples(st.integers(0, 12), st.integers(1, 8), st.sampled_from([False, False, True]))
some_links = st.lists(pairs, max_size=25).map(
    lambda rows: list({(a, n): link(a, a + n, whole=w) for a, n, w in rows}.values())
)


@given(some_links, st.integers(0, 6), st.integers(1, 14))
def test_the_chain_is_the_shortest_there_is(links, after, length):
    upto = after + length
    chain = Chains(links).shortest(after, upto)
    wanted = fewest(links, after, upto)
    assert (None if chain is None else len(chain)) == wanted
    if chain:
        assert chain[-1].to_seq == upto
        assert chain[0].from_seq == after or chain[0].is_whole
        assert all(one.from_seq >= after for one in chain)
        assert all(a.to_seq == b.from_seq for a, b in itertools.pairwise(chain))


def test_a_span_that_was_dropped_is_not_used_and_does_not_come_back():
    chains = Chains([link(0, 1), link(1, 2), link(0, 2)])
    assert chains.shortest(0, 2) == [link(0, 2)]
    chains.drop("0-2")
    chains.add(link(0, 2))
    assert chains.shortest(0, 2) == [link(0, 1), link(1, 2)]
    assert "0-2" in chains


def test_a_whole_span_ends_the_way_back():
    chains = Chains([link(0, 1), link(1, 2), link(2, 3, whole=True), link(3, 4)])
    assert chains.shortest(0, 4) == [link(2, 3, whole=True), link(3, 4)]
    assert chains.shortest(3, 4) == [link(3, 4)]
    assert chains.shortest(0, 5) is None
    assert chains.farthest(0, 5) == []
    assert Chains([link(2, 3), link(3, 5)]).farthest(0, 5) == [link(2, 3), link(3, 5)]


def fewest_covering(links: list[Link], after: int, upto: int) -> int | None:
    """Return how many spans it takes if each may begin within the one before, trying them all."""
    best = {one: 1 for one in links if one.to_seq == upto and one.from_seq >= after}
    for _ in links:
        for newer, count in list(best.items()):
            for one in links:
                joins = newer.from_seq <= one.to_seq <= newer.to_seq and one != newer
                if joins and one.from_seq >= after and not newer.is_whole:
                    best[one] = min(best.get(one, 99), count + 1)
    return min(
        (n for one, n in best.items() if one.from_seq == after or one.is_whole), default=None
    )


@given(some_links, st.integers(0, 6), st.integers(1, 14))
def test_spans_that_overlap_are_the_fewest_that_cover(links, after, length):
    upto = after + length
    found = Chains(links).covering(after, upto)
    wanted = fewest_covering(links, after, upto)
    assert (found is None) == (wanted is None)
    if found:
        assert found[-1].to_seq == upto
        assert found[0].from_seq == after or found[0].is_whole
        for older, newer in itertools.pairwise(found):
            assert newer.from_seq <= older.to_seq <= newer.to_seq


def test_a_chain_across_what_is_lost():
    """What 4-8 tells of the time up to 6 is newer than what 0-6 does, or the same."""
    chains = Chains([link(0, 6), link(4, 8), link(8, 9)])
    assert chains.shortest(0, 9) is None
    assert chains.covering(0, 9) == [link(0, 6), link(4, 8), link(8, 9)]
    assert chains.covering(5, 9) is None


def test_a_whole_span_ends_the_way_back_also_from_where_one_that_is_not_whole_begins():
    chains = Chains([link(5, 7, whole=True), link(5, 11), link(7, 11)])
    assert chains.shortest(0, 11) == [link(5, 7, whole=True), link(7, 11)]
