"""A restore to a logical volume that it makes, on a real LVM, killed twice on its way."""

from __future__ import annotations

import hashlib
import os
import random
import signal
from typing import TYPE_CHECKING

import pytest

from blocksnapd.store.init import init_repository
from blocksnapd.store.repository import Repository
from tests.export.keeping import keep
from tests.lab.machine import GUEST_DIR

if TYPE_CHECKING:
    from tests.conftest import MakeMachine

MIB = 1 << 20
SIZE = 49 * MIB + 8192  # no multiple of an extent: 52 MiB are needed
EXTENTS_SIZE = 52 * MIB

pytestmark = pytest.mark.lab

REFUSED = {
    "full": "vg/back needs 52.0 MiB, vg has",
    "exists": "vg/filler exists",
    "no group": 'Volume group "other" not found',
    "finished": "vg/back exists",
    "damaged": "are damaged in the repository",
}


def test_a_volume_is_made_killed_gone_on_with_and_whole(make_machine: MakeMachine) -> None:
    machine = make_machine([128 * MIB, 128 * MIB])
    made = init_repository(f"{machine.out}/repository", f"{machine.out}/keys")
    repository = Repository.open(f"{machine.out}/repository", restore_key=made.restore_key)
    dice, content = random.Random(1), bytearray(SIZE)
    content[: 40 * MIB] = dice.randbytes(40 * MIB)
    (machine.out / "image").write_bytes(content)
    point = keep(repository, "disk", str(machine.out / "image"))
    os.unlink(machine.out / "image")
    place = "/run/lab/out"
    result = machine.run(
        GUEST_DIR / "new_volume.py", f"{place}/repository", f"{place}/keys/restore.key",
        point.facts.point_id, blank=True,
    )  # fmt: skip
    refused = {e["what"]: e for e in result.events if e["event"] == "refused"}
    assert refused.keys() == REFUSED.keys()
    for what, event in refused.items():
        assert REFUSED[what] in event["said"], event
    assert "besides COW space" in refused["full"]["said"]
    assert refused["damaged"]["volumes"].keys() == {"back"}, "made in vain, removed again"
    assert "vg/lost was removed again." in refused["damaged"]["effect"]
    planned = result.event("planned")
    assert (planned["volumes"], planned["planned"]["target"]) == ({}, "volume")
    assert planned["planned"]["volume_size"] == EXTENTS_SIZE
    killed = [event for event in result.events if event["event"] == "killed"]
    assert len(killed) == 2
    for event in killed:
        assert (event["status"], event["blank"]) == (signal.SIGKILL, True)
        size, tags, devices = event["volumes"]["back"]
        assert (int(size), tags) == (EXTENTS_SIZE, "blocksnap.unfinished")
        assert "ubda" in devices
        assert "ubdb" not in devices
    finished = result.event("finished")
    assert finished["run"]["result"] == "success"
    assert 8 * MIB < finished["run"]["kept_bytes"] < 40 * MIB
    assert finished["run"]["kept_bytes"] + finished["run"]["changed_bytes"] == 40 * MIB
    assert finished["size"] == EXTENTS_SIZE
    assert (
        finished["digest"] == hashlib.sha256(bytes(content.ljust(EXTENTS_SIZE, b"\0"))).hexdigest()
    )
    assert finished["volumes"]["back"][1] == "", "no tag is left on it"
    assert finished["journals"] == []
