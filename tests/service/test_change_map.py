"""The map of a real repository, against what was written to the volume between two points."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from blocksnapd.control.map_messages import ChangeMap, MapQuery
from blocksnapd.errors import NotFoundError
from blocksnapd.maintain.prune import Pruner
from blocksnapd.service import change_map as module
from blocksnapd.service.change_map import change_map
from tests.maintain.merged_lab import MergedLab
from tests.maintain.support import flipped, points
from tests.store.support import BLOCK, START, VOLUME

ROUNDS = 40


def lived(count: int = ROUNDS) -> tuple[MergedLab, list[set[int]]]:
    """Return a volume of 64 blocks, and what was written before each point after the first."""
    lab, rng = MergedLab(), np.random.default_rng(3)
    lab.write(range(64))
    lab.commit()
    written: list[set[int]] = [set()]  # a full point does not say what of it is new
    for _ in range(count - 1):
        blocks = lab.write(rng.integers(0, 64, 5))
        lab.commit(blocks)
        written.append(set(blocks.tolist()))
    return lab, written


def asked(lab: MergedLab, **query: float) -> ChangeMap:
    pruner = Pruner(lab.store, lab.key, lambda: 0.0)
    return change_map(pruner, "db/data", VOLUME, MapQuery(**query))  # type: ignore[arg-type]


def rows(written: list[set[int]], *, regions: int) -> list[list[int]]:
    per = 64 // regions
    return [
        [BLOCK * len({b for b in blocks if b // per == r}) for r in range(regions)]
        for blocks in written
    ]


def test_each_cycle_shows_what_was_written() -> None:
    lab, written = lived()
    found = asked(lab, regions=16)
    assert (found["regions"], found["region_size"], found["size"]) == (16, 4 * BLOCK, 64 * BLOCK)
    assert found["matrix"] == rows(written, regions=16)
    assert [c["changed_bytes"] for c in found["cycles"]] == [len(w) * BLOCK for w in written]
    assert found["cycles"][0]["since"] is None
    assert found["cycles"][3]["since"] == found["cycles"][2]["time"] == "2026-01-02T03:07:05.678Z"
    assert found["left_out"] == 0
    assert [c["full"] for c in found["cycles"]] == [True] + [False] * (ROUNDS - 1)
    assert not any(c["unknown"] for c in found["cycles"])


def test_many_points_share_a_cycle() -> None:
    lab, written = lived()
    found = asked(lab, regions=4, cycles=7)
    each = rows(written, regions=4)
    wanted = [np.sum(each[at : at + 6], axis=0).tolist() for at in range(0, ROUNDS, 6)]
    assert found["matrix"] == wanted
    assert [c["points"] for c in found["cycles"]] == [6] * 6 + [4]


def test_only_points_since_an_instant_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    lab, written = lived()
    lab.maintain()  # the manifest knows when each was made
    since = (START + timedelta(minutes=31)).timestamp()
    found = asked(lab, regions=4, since=since)
    assert found["matrix"] == rows(written[30:], regions=4)
    assert found["left_out"] == 30
    assert found["cycles"][0]["since"] == "2026-01-02T03:34:05.678Z"
    monkeypatch.setattr(module, "POINTS_MAX", 5)
    found = asked(lab, regions=4)
    assert (found["matrix"], found["left_out"]) == (rows(written[35:], regions=4), 35)
    with pytest.raises(NotFoundError):
        asked(lab, since=since + 1e9)


def test_a_merged_layer_tells_what_changed_over_a_gap() -> None:
    lab, written = lived()
    lab.maintain()
    gone = set(range(18, 32))
    lab.expire(gone)
    found = asked(lab, regions=16)
    kept = [seq for seq in range(1, ROUNDS + 1) if seq not in gone]
    assert len(found["cycles"]) == len(kept)
    merged = set().union(*written[16:32])
    at = kept.index(32)
    (over_the_gap,) = rows([merged], regions=16)
    # The layer may reach back further than the gap; then it tells more, never less.
    assert all(a >= b for a, b in zip(found["matrix"][at], over_the_gap, strict=True))
    assert found["matrix"][at] == over_the_gap
    assert found["matrix"][at + 1 :] == rows(written[32:], regions=16)
    assert not any(c["unknown"] for c in found["cycles"])


def test_a_full_point_and_a_damaged_one_are_told_and_hide_nothing_else() -> None:
    lab, written = lived(6)
    lab.commit()
    lab.commit(lab.write([1, 2]))
    names = points(lab)
    lab.store.objects[names[3]] = flipped(lab.store.objects[names[3]], -1)  # type: ignore[attr-defined]
    found = asked(lab, regions=4)
    assert [number for number, c in enumerate(found["cycles"]) if c["full"]] == [0, 6]
    assert [number for number, c in enumerate(found["cycles"]) if c["unknown"]] == [3]
    assert found["matrix"][6] == [0] * 4
    each = rows([*written, set(), {1, 2}], regions=4)
    each[3] = [0] * 4
    assert found["matrix"] == each
    assert [c["time"] for c in found["cycles"]] == sorted(c["time"] for c in found["cycles"])
