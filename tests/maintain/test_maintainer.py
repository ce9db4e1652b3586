"""Rounds of maintenance: what each step leaves, and that none can hurt a point."""

from __future__ import annotations

import numpy as np
import pytest

from blocksnapd.errors import BusyError
from blocksnapd.keep_rules import parse_rule
from blocksnapd.maintain import maintainer
from blocksnapd.maintain.maintainer import Orders, Round, passed_over
from blocksnapd.maintain.prune import Pruner
from blocksnapd.maintain.retention import Policy
from blocksnapd.maintain.spans import wanted
from blocksnapd.store.listing import entry_name, entry_of
from blocksnapd.store.manifests import Manifests
from tests.fakes.memory_objects import MemoryObjects
from tests.store.support import START, VOLUME, Lab, check_image

MINUTE = 60.0
HOUR = 60 * MINUTE
DAY = 24 * HOUR
KEEP = Policy(rules=(parse_rule("all for 2h"),), min_points=1, max_delete_pct=100)


class Site:
    """A repository with a point a minute, whose clock is turned by hand.

    ``after`` is how many seconds it is later than the newest point.
    """

    after = 0.0
    lab: Lab

    def __init__(self, points: int = 0) -> None:
        self.lab = Lab(MemoryObjects(clock=lambda: self.now()))
        self.told: list[tuple[str, str, dict[str, object]]] = []
        self.add(points)

    def add(self, points: int) -> None:
        for _ in range(points):
            changed = self.lab.rng.integers(0, self.lab.blocks, 5)
            self.lab.commit(self.lab.write(changed) if self.lab.kept else None)

    def now(self) -> float:
        count = len(self.lab.kept) if hasattr(self, "lab") else 0
        return START.timestamp() + count * MINUTE + self.after

    def tell(self, kind: str, message: str, *, severity: str = "info", **data: object) -> None:
        self.told.append((kind, severity, {"message": message, **data}))

    def maintain(self, policy: Policy | None = None, **orders: object) -> bool:
        self.told.clear()
        made = Orders(policy=policy, **{"data_per_day": 1.0, **orders})
        return Round(self.lab.store, self.lab.keys, VOLUME, made, self.tell, self.now).run()

    def kinds(self) -> list[str]:
        return [kind for kind, _, _ in self.told]

    @property
    def manifest(self):
        return Manifests(self.lab.store, self.lab.keys).newest(VOLUME).manifest

    def check(self, points=None) -> None:
        for point, image in points or self.lab.kept:
            check_image(self.lab.reader, point, image)


@pytest.fixture
def site():
    return Site(21)


def test_a_round_lists_merges_and_verifies(site):
    assert site.maintain()
    assert [e.seq for e in site.manifest.points] == list(range(1, 22))
    have = {(layer.from_seq, layer.to_seq) for layer in site.manifest.layers}
    assert have == {(one.from_seq, one.to_seq) for one in wanted(site.manifest.points)}
    assert max(to - after for after, to in have) == 16
    assert {v.level for v in site.manifest.verified} == {"data"}
    assert site.kinds() == ["state", "verified", "verified"]
    site.check()


def test_a_second_round_has_nothing_to_do(site):
    site.maintain()
    before = dict(site.lab.store.objects)
    assert site.maintain()
    assert site.lab.store.objects == before
    assert site.kinds() == ["state"]


def test_forgotten_points_stay_until_their_window_ends(site):
    site.maintain()
    site.after = 2 * HOUR + 5 * MINUTE
    assert site.maintain(KEEP)
    assert "pruned" in site.kinds()
    forgotten = {f.seq for f in site.manifest.forgotten}
    assert len(forgotten) == 20  # the newest stays
    site.check()
    site.after += 13 * DAY
    site.maintain()
    assert len(site.manifest.points) == 21
    site.after += 2 * DAY
    assert site.maintain()
    assert [e.seq for e in site.manifest.points] == [21]
    assert not site.manifest.forgotten
    assert [(ref.from_seq, ref.to_seq) for ref in site.manifest.layers] == [(0, 21)]
    site.check(site.lab.kept[-1:])


def test_an_expired_point_stays_listed_while_nothing_leads_over_it(site):
    site.maintain(KEEP)
    site.after = 2 * HOUR + 5 * MINUTE
    site.maintain(KEEP)
    site.after += 20 * DAY
    assert site.maintain(merge_size=0)
    assert len(site.manifest.points) == 21
    site.maintain()
    assert len(site.manifest.points) == 1


def test_a_guard_stops_pruning_and_nothing_else(site):
    site.after = 2 * HOUR + 5 * MINUTE
    strict = Policy(rules=KEEP.rules, min_points=1, max_delete_pct=10)
    assert site.maintain(strict)
    assert site.kinds()[:2] == ["prune-stopped", "state"]
    assert "max_delete_pct" in site.told[0][2]["message"]
    assert not site.manifest.forgotten


def test_what_expired_is_repacked_and_deleted_days_later(site):
    def stored() -> int:
        names = (n for n in site.lab.store.objects if n.startswith("v/"))
        return sum(len(site.lab.store.objects[name]) for name in names)

    site.maintain()
    site.after = 2 * HOUR + 5 * MINUTE
    site.maintain(KEEP)
    site.after += 15 * DAY
    before, seen = stored(), set()
    for _ in range(10):
        site.after += DAY
        assert site.maintain(KEEP)
        seen |= set(site.kinds())
        site.check(site.lab.kept[-1:])
    assert {"repacked", "collected"} <= seen
    assert stored() < 0.6 * before  # every block of the newest point, and little more
    site.add(2)
    site.check(site.lab.kept[-3:])


def test_damage_is_found_told_and_does_not_stop_a_round(site):
    site.maintain()
    name = site.lab.kept[10][0].name
    data = bytearray(site.lab.store.objects[name])
    data[-40] ^= 1
    site.lab.store.objects[name] = bytes(data)
    site.after = 2 * DAY
    site.maintain()
    found = [told for told in site.told if told[0] == "damage-found"]
    assert found
    assert found[0][1] == "critical"
    assert any(name in problem for problem in found[0][2]["problems"])


def test_a_damaged_layer_is_made_anew(site):
    site.maintain()
    name = site.manifest.layers[-1].name
    data = bytearray(site.lab.store.objects[name])
    data[3] ^= 1
    site.lab.store.objects[name] = bytes(data)
    site.after = 2 * DAY
    site.maintain()
    assert any(name in problem for problem in site.told[1][2]["problems"])
    names = {layer.name for layer in site.manifest.layers}
    assert name not in names
    site.after += 2 * DAY
    site.maintain()
    assert "damage-found" not in site.kinds()
    site.check()


def test_a_missing_point_is_told(site):
    site.maintain()
    site.lab.store.delete(site.lab.kept[3][0].name)
    site.maintain()
    assert site.told[0][:2] == ("points-missing", "critical")
    assert site.lab.kept[3][0].name in site.told[0][2]["message"]


def test_two_rounds_at_once_are_one_too_many(site):
    lock = site.lab.store.lock(f"m/{VOLUME}/")
    with pytest.raises(BusyError):
        site.maintain()
    lock.release()
    assert site.maintain()


def test_a_failing_step_leaves_the_others(site):
    site.maintain()
    newest = site.lab.kept[-1][0]
    site.lab.store.objects[f"m/{VOLUME}/{2**40:016x}.mf"] = b"x"
    assert not site.maintain()
    assert set(site.kinds()) == {"maintenance-failed"}
    assert all(said[1] == "error" for said in site.told)
    check_image(site.lab.reader, newest, site.lab.kept[-1][1])


def test_rounds_between_points_for_days_keep_every_kept_point_whole():
    site = Site()
    rng = np.random.default_rng(5)
    policy = Policy((parse_rule("all for 2h"), parse_rule("1/h for 1d")), min_points=1,
                    max_delete_pct=100, undelete_us=int(HOUR * 1e6))  # fmt: skip
    for _ in range(24):
        site.add(int(rng.integers(1, 40)))
        assert site.maintain(policy)
    names = {entry_name(VOLUME, e) for e in site.manifest.points}
    kept = [(point, image) for point, image in site.lab.kept if point.name in names]
    assert len(kept) == len(names) < len(site.lab.kept)
    site.check(kept)


def test_what_is_passed_over():
    site = Site(6)
    entries = [entry_of(point) for point, _ in site.lab.kept]
    site.maintain()
    layers = site.manifest.layers
    assert passed_over(entries, entries, layers) == frozenset()
    # 1-3 expired: the layer 0-4 leads over them. 5 expired: none leads from 4 to 6.
    assert passed_over(entries, [entries[3], entries[5]], layers) == {1, 2, 3}


def test_a_step_is_decided_anew_when_the_manifest_changed_meanwhile(site, monkeypatch):
    """Somebody holds a point while layers are merged: both count, and nothing failed."""
    merged = maintainer.merge_due
    held = []

    def merge_due(*args, **more):
        if not held:
            pruner = Pruner(site.lab.store, site.lab.keys, site.now)
            held.append(pruner.hold(VOLUME, site.lab.kept[3][0].facts.point_id))
        return merged(*args, **more)

    monkeypatch.setattr(maintainer, "merge_due", merge_due)
    assert site.maintain()
    assert "maintenance-failed" not in site.kinds()
    assert [hold.seq for hold in site.manifest.holds] == [4]
    assert site.manifest.layers
    site.check()
