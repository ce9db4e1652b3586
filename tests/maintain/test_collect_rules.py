"""When things may be condemned and deleted, case by case; ``tests/model`` has all histories."""

from __future__ import annotations

import pytest

from blocksnapd.maintain.collect_rules import (
    Patience,
    Pending,
    distrust,
    has_progress,
    has_waited,
    may_condemn,
    next_epoch,
    outlived,
    replaced_manifests,
    sweep,
)
from blocksnapd.store.collection_rules import SESSION_S_MAX

P = Patience(young_s=2.0, leftover_s=8.0, wait_s=1.0, session_s=7.0)


def test_leftovers_outlive_every_session():
    assert Patience().leftover_s > Patience().session_s == SESSION_S_MAX
    for wrong in ({"leftover_s": 7.0}, {"young_s": 9.0}, {"young_s": -1.0}, {"wait_s": -1.0}):
        given = {"young_s": 2.0, "leftover_s": 8.0, "wait_s": 1.0, "session_s": 7.0}
        with pytest.raises(ValueError, match="leftovers"):
            Patience(**(given | wrong))


def test_epochs_only_grow():
    assert next_epoch(0, 0, 0) == 1
    assert next_epoch(4, 2, 3) == 5
    assert next_epoch(0, 6, 3) == 7
    assert next_epoch(0, 0, 8) == 9


@pytest.mark.parametrize(
    ("age", "is_locked", "may"),
    [(1.9, True, False), (2.0, True, True), (7.9, None, False), (7.9, False, False),
     (8.0, None, True), (8.0, False, True), (-5.0, True, False)],
)  # fmt: skip
def test_what_is_young_is_left_alone(age, is_locked, may):
    assert may_condemn(age, is_locked=is_locked, patience=P) is may


def test_readers_have_their_time():
    assert not has_waited(Pending(1, 0.9, 5, 99.0, is_locked=True), P)
    assert has_waited(Pending(1, 1.0, 0, 0.0, is_locked=None), P)


@pytest.mark.parametrize(
    ("age", "newest", "newest_age", "is_locked", "has"),
    [(0, 3, 0, False, True),  # the newest point has seen it
     (0, 2, 0, True, True),  # there is no session
     (99, 2, 99, False, False),  # there is one
     (99, 2, 7, None, False), (7, 2, 99, None, False), (7.1, 2, 7.1, None, True)],
)  # fmt: skip
def test_older_sessions_must_have_ended(age, newest, newest_age, is_locked, has):
    pending = Pending(3, float(age), newest, float(newest_age), is_locked)
    assert has_progress(pending, P) is has


def test_what_is_needed_again_is_spared():
    assert sweep(["a", "b", "c"], {"a", "c", "d"}) == (["a", "c"], ["b"])


def test_lists_stay_as_long_as_somebody_may_ask():
    assert outlived([1, 2, 3, 4], {1, 2, 3, 4}, 2) == [1, 2]
    assert outlived([1, 2], {1, 2}, 9) == [1]  # the last one tells where epochs are
    assert outlived([1, 2, 3], {2, 3}, 9) == [2]
    assert outlived([], set(), 9) == []


def test_old_manifests_stay_for_a_while():
    ages = {n: 100.0 - n for n in range(1, 13)}
    assert replaced_manifests(range(1, 13), ages, keep=8, keep_s=97.0) == [2, 3]
    assert replaced_manifests(range(1, 13), ages, keep=8, keep_s=0.0) == [2, 3, 4]
    assert replaced_manifests(range(1, 9), ages, keep=8, keep_s=0.0) == []
    assert replaced_manifests(range(1, 13), {}, keep=8) == []


GOOD = {
    "seqs": [1, 4, 5, 6], "listed": [1, 4], "newest_seen": 6, "generation": 3,
    "generation_seen": 3, "packs": 100, "packs_before": 100, "lost": 0, "named": 90,
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [{}, {"listed": []}, {"listed": [], "seqs": [7, 8]}, {"listed": [1, 4, 5, 6]},
     {"packs": 95}, {"packs": 94, "lost": 1}, {"packs": 1000}, {"lost": 1, "named": 1},
     {"lost": 4, "named": 100}],
)  # fmt: skip
def test_a_whole_listing_is_believed(change):
    if change.get("listed") == []:
        change = {"seqs": [4, 5, 6, 7], **change}
    assert distrust(**(GOOD | change)) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [({"seqs": [1, 4, 6]}, "missing between"),
     ({"seqs": [5, 7], "listed": []}, "missing between"),
     ({"newest_seen": 7}, "point 7 was there"),
     ({"seqs": [], "listed": []}, "point 6 was there"),
     ({"generation": 2}, "manifest 3 was there"),
     ({"packs": 94}, "100 packs were there"),
     ({"lost": 6, "named": 100}, "6 of the 100 packs")],
)  # fmt: skip
def test_a_listing_that_lost_something_is_not(change, said):
    assert said in distrust(**(GOOD | change))[0]
