"""Damage heals once its content lies elsewhere: by patches, for every older point."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import pytest

from blocksnapd.errors import StoreMissingError
from blocksnapd.maintain.heal import find_healing
from blocksnapd.maintain.verify_runs import VerifyRuns
from blocksnapd.store.check_records import CheckRecords
from blocksnapd.store.keys import MaintenanceKey
from blocksnapd.store.manifests import Manifests
from tests.maintain.support import flipped, history_lab, packs
from tests.store.support import VOLUME, Lab

if TYPE_CHECKING:
    from blocksnapd.maintain.heal import Healing

DAY = 86_400_000_000


@pytest.fixture
def lab(monkeypatch) -> Lab:
    """Five points; most blocks, and all of the first pack, stand in the first one only."""
    monkeypatch.setattr("blocksnapd.store.pack_writer.BATCH_SIZE", 65536)
    monkeypatch.setattr("blocksnapd.store.pack_writer.PACK_SIZE_TARGET", 100_000)
    lab = Lab(blocks=100)
    lab.write(range(4, 96), noise=True)
    monkeypatch.setattr("blocksnapd.store.sink.INLINE_SIZE_MAX", 0)
    lab.commit()
    monkeypatch.setattr("blocksnapd.store.sink.INLINE_SIZE_MAX", 1 << 20)
    for blocks in ([0, 99], [70, 71], [1], [72]):
        lab.commit(lab.write(blocks, noise=True))
    return lab


def key_of(lab: Lab) -> MaintenanceKey:
    return MaintenanceKey(lab.keys.source, lab.keys.metadata_private)


def damage(lab: Lab, name: str, *, how: str) -> None:
    data = lab.store.objects[name]
    changed = {"frame": flipped(data, 70_000), "tail": flipped(data, len(data) - 200), "gone": None}
    if changed[how] is None:
        del lab.store.objects[name]
    else:
        lab.store.objects[name] = changed[how]


def verify(lab: Lab, day: int = 1):
    return VerifyRuns(lab.store, key_of(lab), VOLUME).whole(day * DAY)


def ship_again(lab: Lab) -> list[int]:
    """Commit a point of what is wanted and still the same, as the source would."""
    wanted = lab.writer.wanted(VOLUME)
    blocks = np.unique(wanted.blocks).astype(np.intp)
    lab.commit(blocks, number=100 + len(lab.kept))
    return blocks.tolist()


def heal(lab: Lab) -> Healing:
    """What maintenance does: look, publish, close."""
    manifests, key = Manifests(lab.store, key_of(lab)), key_of(lab)
    records = CheckRecords(lab.store, key.source, VOLUME)
    found = find_healing(lab.store, key, VOLUME, records.read())
    before = manifests.newest(VOLUME)
    after = found.applied(before.manifest)
    if after is not before.manifest:
        manifests.publish(before, after, time_us=DAY)
    found.close(records, time_us=DAY)
    return found


@pytest.mark.parametrize("how", ["frame", "tail", "gone"])
def test_shipped_again_it_heals_every_point(lab, how):
    name = packs(lab)[0]
    damage(lab, name, how=how)
    outcome = verify(lab)
    harmed = [p.seq for p in outcome.check.points if p.damaged]
    assert harmed == [1, 2, 3, 4, 5]
    ship_again(lab)
    found = heal(lab)
    assert found.healed_blocks == outcome.damaged_blocks
    assert found.left_blocks == 0
    assert {patch.origin for patch in found.patches} == {name}
    assert sum(patch.count for patch in found.patches) == found.healed_blocks
    after = verify(lab, 2)
    assert after.is_whole
    assert after.damaged_blocks == 0
    assert after.told == ()
    assert all(p.is_whole for p in after.check.points)
    assert len(lab.writer.wanted(VOLUME).records) == 0
    assert CheckRecords(lab.store, lab.keys.source, VOLUME).read().bad == {}


def test_patches_are_runs(lab):
    damage(lab, packs(lab)[0], how="frame")
    verify(lab)
    ship_again(lab)
    assert [(p.slot, p.count) for p in heal(lab).patches] == [(16, 16)]


def test_what_the_volume_has_no_more_stays_damaged(lab):
    damage(lab, packs(lab)[0], how="frame")
    outcome = verify(lab)
    lab.write([22, 23])
    ship_again(lab)
    found = heal(lab)
    assert found.healed_blocks == outcome.damaged_blocks - 2
    assert found.left_blocks == 2
    assert found.closes == ()
    after = verify(lab, 2)
    assert not after.is_whole
    assert after.damaged_blocks == 2
    assert after.check.points[0].damaged == [(22 * 4096, 24 * 4096)]
    assert after.check.points[-1].is_whole
    again = heal(lab)  # nothing new is found, nothing is published again
    assert again.patches == found.patches
    assert len(Manifests(lab.store, key_of(lab)).generations(VOLUME)) == 1


def test_an_older_copy_of_the_same_content_will_do(monkeypatch):
    lab = history_lab(monkeypatch)  # its sixth point is full: it holds all blocks once more
    damage(lab, packs(lab)[0], how="frame")
    outcome = verify(lab)
    found = heal(lab)
    # 20, 30 and 31 were changed in between: nothing holds what they were before.
    assert (outcome.damaged_blocks, found.left_blocks) == (16, 3)
    after = verify(lab, 2)
    assert [p.damaged_bytes // 4096 for p in after.check.points] == [3, 3, *[0] * 6]


def test_unknown_content_is_taken_only_when_a_sum_proves_it(lab):
    """The source ships other content for a lost block, as if it were the same."""
    damage(lab, packs(lab)[0], how="gone")
    verify(lab)
    lab.write([10])  # unlike all others it is not what it was
    ship_again(lab)
    found = heal(lab)
    assert found.healed_blocks == 0
    assert found.patches == ()
    assert not verify(lab, 2).is_whole


def test_once_the_changed_block_is_gone_a_later_point_proves_the_rest(lab):
    name = packs(lab)[0]
    lab.commit(lab.write([10]), number=50)  # before it was lost: this point needs no more of it
    damage(lab, name, how="gone")
    outcome = verify(lab)
    ship_again(lab)
    found = heal(lab)
    # What 10 was before nobody has any more; all others are proven by the sixth point.
    assert found.left_blocks == 1
    assert found.healed_blocks == outcome.damaged_blocks - 1
    after = verify(lab, 2)
    assert [p.damaged_bytes // 4096 for p in after.check.points] == [1] * 5 + [0] * 2


def test_what_one_lost_pack_held_proves_nothing_of_another(lab, monkeypatch):
    """Block 10 lay in both, with other content: the sum of later points knows only the later."""
    monkeypatch.setattr("blocksnapd.store.sink.INLINE_SIZE_MAX", 0)
    lab.commit(lab.write([10], noise=True), number=50)
    for name in (packs(lab)[0], packs(lab)[-1]):
        del lab.store.objects[name]
    verify(lab)
    ship_again(lab)
    found = heal(lab)
    assert found.healed_blocks
    assert found.left_blocks == 1
    for point, image in lab.kept:
        opened = lab.reader.open_image(point)
        for block in (9, 10, 11):
            part = bytearray(4096)
            with suppress(StoreMissingError):
                opened.read_into(block * 4096, memoryview(part))
                assert part == image[block * 4096 : (block + 1) * 4096]


def test_a_new_place_that_is_damaged_too_heals_nothing_until_there_is_another(lab, monkeypatch):
    monkeypatch.setattr("blocksnapd.store.sink.INLINE_SIZE_MAX", 0)
    name = packs(lab)[0]
    damage(lab, name, how="frame")
    verify(lab)
    ship_again(lab)
    second = heal(lab).patches[0].to.name
    data = lab.store.objects[second]
    lab.store.objects[second] = flipped(data, 10)
    outcome = verify(lab, 2)
    assert outcome.damaged_blocks == 32  # the old slots are read there, and the newest point
    assert all(p.damaged_bytes == 16 * 4096 for p in outcome.check.points)
    assert ship_again(lab) == list(range(20, 36))
    found = heal(lab)
    assert found.left_blocks == 0
    assert {(p.origin, p.to.name == second) for p in found.patches} == {
        (name, False), (second, False),
    }  # fmt: skip
    assert verify(lab, 3).is_whole


def test_patches_that_no_point_needs_go(lab):
    damage(lab, packs(lab)[0], how="frame")
    verify(lab)
    ship_again(lab)
    heal(lab)
    for point, _ in lab.kept[:5]:
        del lab.store.objects[point.name]
    full = lab.commit(number=200)
    for name in lab.store.list_names(f"v/{VOLUME}/p/"):
        if name != full.name:
            del lab.store.objects[name]
    assert heal(lab).patches == ()


def test_without_damage_nothing_is_read(lab, monkeypatch):
    read = []
    whole = type(lab.store).get
    monkeypatch.setattr(
        type(lab.store), "get", lambda self, n, **o: read.append(n) or whole(self, n, **o)
    )
    assert heal(lab).patches == ()
    assert read == []
