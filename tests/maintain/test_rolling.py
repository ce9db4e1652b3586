"""Which packs have their turn, and which point counts as verified."""

from __future__ import annotations

from blocksnapd.maintain.rolling import (
    budget,
    choose,
    verified_by_data,
    with_verified,
)
from blocksnapd.maintain.verify_levels import PackUse, PointCheck
from blocksnapd.store.layers import PackPlace
from blocksnapd.store.manifest_format import Manifest, PointEntry, Verified
from blocksnapd.store.point_format import PackRef


def use(name: str, size: int, seq: int) -> PackUse:
    return PackUse(PackPlace(PackRef(name, size, "", 4, "", 1), "v", 4096, name, 0), seq)


PACKS = {n: use(n, size, seq) for n, size, seq in [("a", 100, 1), ("b", 50, 1), ("c", 70, 3)]}


def point(seq: int, *, whole: bool = True, known: bool = True) -> PointCheck:
    return PointCheck(f"n{seq}", f"p{seq}", seq, 4096, 4096, known, has_own_problem=not whole)


def test_the_budget_follows_the_time_that_passed():
    assert budget(PACKS, 0.1) == 22
    assert budget(PACKS, 0.1, 43_200) == 11
    assert budget(PACKS, 0.1, 86_400 * 1000) == 220
    assert budget({}, 0.1) == 0


def test_never_read_comes_first_then_the_longest_ago():
    assert choose(PACKS, {}, 1) == ["a"]
    assert choose(PACKS, {}, 1000) == ["a", "b", "c"]
    assert choose(PACKS, {"a": 5, "b": 4}, 1000) == ["c", "b", "a"]
    assert choose(PACKS, {"a": 5, "b": 4}, 70) == ["c"]
    assert choose(PACKS, {"a": 5, "b": 4}, 71) == ["c", "b"]
    assert choose(PACKS, {}, 0) == []


def test_every_pack_has_its_turn():
    packs = {str(n): use(str(n), 10 + n, n) for n in range(30)}
    checked: dict[str, int] = {}
    size, days = budget(packs, 0.05), 0
    while len(checked) < len(packs):
        days += 1
        checked |= dict.fromkeys(choose(packs, checked, size), days)
    assert days <= 20


def test_a_point_counts_once_all_before_the_first_unread_pack_are_read():
    points = [point(seq) for seq in (1, 2, 3, 4)]

    def newest(*checked: str) -> int:
        found = verified_by_data(points, PACKS, dict.fromkeys(checked, 9), time_us=9)
        return found.seq if found else 0

    assert newest() == 0
    assert newest("a", "c") == 0
    assert newest("a", "b") == 2
    assert newest("a", "b", "c") == 4
    points[3] = point(4, whole=False)
    assert newest("a", "b", "c") == 3
    points[2] = point(3, known=False)
    assert newest("a", "b", "c") == 2


def test_a_manifest_tells_the_newest_of_each_level():
    entries = tuple(
        PointEntry(seq, f"p{seq}", 0, 0, "full", "first", "crash", 0, 0, 0) for seq in range(1, 6)
    )
    old = (Verified(1, 10, "source"), Verified(2, 10, "data"), Verified(3, 10, "structure"))
    manifest = Manifest(points=entries, verified=old)
    points = [point(seq) for seq in range(1, 6)]
    assert with_verified(manifest, points, []) == old
    new = with_verified(manifest, points, [Verified(4, 20, "data"), Verified(5, 20, "structure")])
    assert new == (old[0], Verified(4, 20, "data"), Verified(5, 20, "structure"))
    same = with_verified(manifest, points, [Verified(3, 20, "data")])
    assert same == (old[0], Verified(3, 20, "data"))
    points[1] = point(2, whole=False)
    assert with_verified(manifest, points, []) == (old[0], old[2])
    assert with_verified(manifest, points[2:], []) == (old[2],)


def test_what_the_manifest_does_not_list_yet_is_not_told_as_verified():
    """A round that could not merge lists no new points; they are checked all the same."""
    points = [point(1), point(2)]
    listed = PointEntry(1, "p1", 1, 1, "full", "first", "crash", 0, 0, 0)
    manifest = Manifest(points=(listed,))
    found = with_verified(manifest, points, [Verified(1, 5, "data"), Verified(2, 5, "data")])
    assert found == (Verified(1, 5, "data"),)
