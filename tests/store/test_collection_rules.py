"""What a writer decides about collections, case by case; ``tests/model`` has all histories."""

from __future__ import annotations

import pytest

from blocksnapd.store.collection_format import Condemned
from blocksnapd.store.collection_rules import is_tainted, noted_epoch, refusal, rivals
from blocksnapd.store.names import pack_name, point_name


def pid(number: int) -> str:
    return f"p{number:016x}"


def pack(number: int) -> str:
    return pack_name("v", "20260102", pid(number), 0, "0a1b2c3d")


def cond(epoch: int, newest: int, *packs: str, replaced: tuple[str, ...] = ()) -> Condemned:
    return Condemned("0" * 32, "v", epoch, 0, 0, newest, packs=packs, replaced=replaced)


def test_a_session_starts_from_the_highest_epoch():
    assert noted_epoch(3, 2) == 3
    assert noted_epoch(0, 2) == 2  # lists were lost: what its base noted counts


@pytest.mark.parametrize(
    ("noted", "seen", "lists", "age", "why"),
    [
        (0, 0, {}, 5, ""),
        (2, 2, {}, 5, ""),
        (0, 1, {1: cond(1, 1, pack(9))}, 5, ""),
        (0, 1, {1: cond(1, 1, pack(4))}, 5, "condemned"),
        (0, 2, {1: cond(1, 1, pack(4)), 2: cond(2, 1)}, 5, "condemned"),
        (1, 2, {1: cond(1, 1, pack(4)), 2: cond(2, 1)}, 5, ""),  # known when it began
        (0, 1, {1: cond(1, 1, replaced=(pack(4),))}, 5, ""),  # its slots live elsewhere
        (0, 2, {2: cond(2, 1)}, 5, "unknown"),
        (3, 2, {}, 5, "shrunk"),
        (0, 0, {}, 11, "late"),
    ],
)
def test_why_a_session_must_not_commit(noted, seen, lists, age, why):
    given = {"age_s": float(age), "age_s_max": 10.0}
    assert refusal(noted, seen, lists, {pack(4), pack(5)}, **given) == why


@pytest.mark.parametrize(
    ("epoch", "seen", "lists", "is_so"),
    [
        (0, 0, {}, False),
        (2, 1, {}, False),  # lists were lost: none that could harm is left
        (0, 1, {1: cond(1, 6, pack(7))}, True),  # marked before the point was there
        (0, 1, {1: cond(1, 7, pack(7))}, False),  # marked with it: what died is a leftover
        (0, 1, {1: cond(1, 6, pack(8))}, False),
        (1, 1, {}, False),
        (0, 2, {1: cond(1, 6), 2: cond(2, 6, pack(7))}, True),
        (0, 2, {1: cond(1, 7), 2: cond(2, 8, pack(7))}, False),
        (0, 2, {2: cond(2, 6)}, True),  # nobody knows what the first one said
    ],
)
def test_whether_a_point_may_have_lost_its_packs(epoch, seen, lists, is_so):
    assert is_tainted(point_name("v", 7, pid(7)), epoch, seen, lists) is is_so


def test_rivals_took_the_place_or_follow_another():
    mine = point_name("v", 7, pid(7))
    older, beside, newer = (point_name("v", seq, pid(9)) for seq in (6, 7, 8))
    assert rivals(mine, [older, mine]) == []
    assert rivals(mine, [older, mine, beside]) == [beside]
    assert rivals(mine, [mine, newer]) == [newer]
