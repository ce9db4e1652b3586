"""A restore in place where it cannot be done; where it can, tests.lab.test_in_place does it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from blocksnapd.errors import RefusedError
from blocksnapd.model import Changes, Extents
from blocksnapd.restore.in_place import Measured
from blocksnapd.service import in_place
from tests.control.serving import serving
from tests.service.test_worker_operations import Host

if TYPE_CHECKING:
    from pathlib import Path

    from blocksnapd.model import RestorePoint
    from blocksnapd.restore.held_volume import HeldVolume
    from blocksnapd.store.image import Image

MIB = 1 << 20


async def test_a_volume_that_is_not_here(tmp_path: Path) -> None:
    host = Host(tmp_path)
    await host.held.load()
    point = host.points[0].facts.point_id
    async with serving() as served:
        run = await host.done(kind="in-place", point=point, daemon=served.path)
        assert served.operations.in_place_heard == []  # nobody was asked to stop anything
    assert (run["result"], run["to"]) == ("failed", "/dev/mapper/db-data")
    error = run["error"]
    assert error is not None
    assert error["code"] == "E-VOLUME"
    assert "/dev/mapper/db-data cannot be opened" in error["message"]
    assert error["effect"] == "Nothing was written to it."


def test_a_file_is_no_logical_volume() -> None:
    with pytest.raises(RefusedError, match="no logical volume") as caught:
        in_place._logical_volume("/srv/disk.img")
    assert "--to PATH" in caught.value.hint


def held(size: int = MIB, uuid: str = "") -> HeldVolume:
    return cast("HeldVolume", SimpleNamespace(size=size, dm_uuid=uuid, path="/dev/mapper/vg-x"))


def test_one_of_this_name_that_was_made_anew() -> None:
    facts = SimpleNamespace(volume_id="AbC-dEf", point_id="p7")
    wanted = cast("RestorePoint", SimpleNamespace(facts=facts))
    in_place._check_identity(held(uuid="LVM-vgvgvgAbCdEf"), wanted)
    for uuid in ("LVM-vgvgvgXXCdEf", "", "CRYPT-AbCdEf"):
        with pytest.raises(RefusedError, match="made anew") as caught:
            in_place._check_identity(held(uuid=uuid), wanted)
        assert "restore p7 --to /dev/mapper/vg-x" in caught.value.hint


def image(size: int, block_size: int = 4096) -> Image:
    return cast("Image", SimpleNamespace(size=size, block_size=block_size))


def test_sizes() -> None:
    assert in_place._check_sizes("vg/x", held(), image(MIB), image(MIB)) == []
    (said,) = in_place._check_sizes("vg/x", held(), image(MIB), image(MIB - 512))
    assert said == "vg/x grew since: 512 bytes behind what the point holds are zero now."
    with pytest.raises(RefusedError, match="made smaller") as caught:
        in_place._check_sizes("vg/x", held(), image(MIB), image(MIB + 512))
    assert f"lvextend -L {MIB + 512}b vg/x" in caught.value.hint
    for now, wanted in ((image(MIB + 512), image(MIB)), (image(MIB), image(MIB, 8192))):
        with pytest.raises(RefusedError, match="do not fit"):
            in_place._check_sizes("vg/x", held(), now, wanted)


def test_room_for_what_is_copied_out() -> None:
    changes = Changes(Extents.whole(3 * MIB), 4096, 768)
    size = Measured(9 * MIB, 10 * MIB, 5)
    for room in (None, 9 * MIB):
        in_place._check_room(room, size, changes)
    with pytest.raises(RefusedError, match="above its reserve"):
        in_place._check_room(7 * MIB, size, changes)
    in_place._check_room(2 * MIB, Measured(MIB, 3 * MIB, 5), changes)  # it was copied out before
