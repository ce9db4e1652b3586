"""Which packs are worth repacking."""

from __future__ import annotations

from blocksnapd.maintain.repack_rules import SMALL_COUNT_MIN, SMALL_SIZE, Weighed, chosen
from blocksnapd.store.layers import PackPlace
from blocksnapd.store.point_format import PackRef


def pack(name: str, live: int, size: int = 4 * SMALL_SIZE) -> Weighed:
    ref = PackRef(name, size, "ab" * 32, 300, "cd" * 32, 100)
    return Weighed(PackPlace(ref, "v", 4096, name, 0), live, 100)


def names(packs: list[Weighed]) -> list[str]:
    return [one.place.ref.name for one in packs]


def test_those_that_are_mostly_dead_go_the_deadest_first():
    packs = [pack("a", 50), pack("b", 49), pack("c", 1), pack("d", 100), pack("e", 49)]
    assert names(chosen(packs, budget=1 << 40)) == ["c", "b", "e"]


def test_small_ones_go_when_they_are_many():
    few = [pack(f"s{n:02}", 100, SMALL_SIZE - 1) for n in range(SMALL_COUNT_MIN - 1)]
    assert chosen([pack("a", 100), *few], budget=1 << 40) == []
    many = [*few, pack("z", 100, SMALL_SIZE - 1)]
    assert names(chosen([pack("a", 100), *many], budget=1 << 40)) == names(many)


def test_a_budget_is_kept():
    packs = [pack("a", 10, 100), pack("b", 20, 1000), pack("c", 30, 100)]
    assert names(chosen(packs, budget=200)) == ["a", "c"]
    assert chosen(packs, budget=99) == []
