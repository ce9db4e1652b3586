"""A file, protected by ``scan`` into a real repository while it changes, and every point back."""

from __future__ import annotations

import asyncio
import os
import random
from typing import TYPE_CHECKING

import pytest

from blocksnapd.cycle.journal import Journal
from blocksnapd.cycle.rotation import Asked
from blocksnapd.cycle.scan_source import UNCHANGED, ScanSource
from blocksnapd.errors import BlocksnapError
from blocksnapd.pipeline import Cycle
from blocksnapd.restore.full import RestoreReport, restore_full
from blocksnapd.restore.target import examine, open_target
from blocksnapd.runtime.clock import SystemClock
from blocksnapd.ship.fingerprints import FingerprintStore
from blocksnapd.shipping import Volume
from blocksnapd.store.init import InitReport, init_repository
from blocksnapd.store.repository import Repository
from blocksnapd.units import MIB

if TYPE_CHECKING:
    from pathlib import Path

    from blocksnapd.model import RestorePoint

SIZE = 5 * MIB + 1234  # neither a block's nor a sector's multiple


class Silent:
    """Hears everything and says nothing."""

    def step(self, name: str) -> None: ...
    def phase(self, name: str, seconds: float) -> None: ...
    def progress(self, progress: object) -> None: ...
    def event(self, kind: str, message: str, **fields: object) -> None: ...


@pytest.fixture
def keys(tmp_path: Path) -> InitReport:
    (tmp_path / "keys").mkdir()
    (tmp_path / "state").mkdir()
    return init_repository(str(tmp_path / "repo"), str(tmp_path / "keys"))


def protect(tmp_path: Path, keys: InitReport) -> RestorePoint:
    """Start a daemon's cycle on the volume, run it once, end it; return the point."""
    clock, state = SystemClock(), str(tmp_path / "state")
    volume = Volume(
        "data.img", "scan-1", 4096, ScanSource(str(tmp_path / "data.img"), "scan-1", clock),
        Repository.open(keys.url, source_key=keys.source_key), FingerprintStore(state + "/f"),
        Journal.open(state, volume_id="scan-1", volume_name="data.img"), clock,
    )  # fmt: skip
    cycle = Cycle(volume, Silent())
    asyncio.run(cycle.run(Asked(due=True)))
    (point,) = cycle.committed
    return point


def restore(keys: InitReport, point: RestorePoint, path: Path) -> RestoreReport:
    repository = Repository.open(keys.url, restore_key=keys.restore_key)
    image = repository.open_image(point)
    plan = examine(
        str(path),
        image_size=image.size,
        data_size=image.data_extents().size,
        overwrite=True,
        keep_out=[keys.url],
    )
    return restore_full(image, open_target(plan), progress=lambda _: None, cancelled=lambda: False)


def scribble(path: Path, dice: random.Random) -> None:
    with path.open("r+b") as file:
        for _ in range(12):
            file.seek(dice.randrange(SIZE))
            length = min(dice.choice([1, 512, 4096, 70_000]), SIZE - file.tell())
            file.write(bytes(length) if dice.random() < 0.4 else dice.randbytes(length))


def test_every_point_of_a_changing_file_comes_back_byte_for_byte(
    tmp_path: Path, keys: InitReport
) -> None:
    dice = random.Random(7)
    data = tmp_path / "data.img"
    data.write_bytes(dice.randbytes(MIB) + bytes(2 * MIB) + dice.randbytes(SIZE - 3 * MIB))
    instants: list[tuple[RestorePoint, bytes]] = []
    for _ in range(4):
        point = protect(tmp_path, keys)
        assert point.facts.consistency == UNCHANGED
        instants.append((point, data.read_bytes()))
        scribble(data, dice)
    assert instants[1][0].shipped_bytes < MIB, "what did not change is not shipped again"
    restored = tmp_path / "restored.img"
    for point, content in instants:
        report = restore(keys, point, restored)
        assert restored.read_bytes() == content
        assert report.verified_bytes == SIZE
    assert restored.stat().st_blocks * 512 < SIZE - MIB, "zeros are holes"


def test_damage_in_a_pack_leaves_the_old_file(tmp_path: Path, keys: InitReport) -> None:
    (tmp_path / "data.img").write_bytes(os.urandom(SIZE))
    point = protect(tmp_path, keys)
    packs = [p for p in (tmp_path / "repo").rglob("*") if p.is_file() and p.stat().st_size > MIB]
    damaged = bytearray(packs[0].read_bytes())
    damaged[len(damaged) // 2] ^= 1
    packs[0].chmod(0o600)
    packs[0].write_bytes(damaged)
    restored = tmp_path / "restored.img"
    restored.write_bytes(b"precious")
    with pytest.raises(BlocksnapError) as caught:
        restore(keys, point, restored)
    assert f"{restored} is as it was before." in caught.value.effect
    assert restored.read_bytes() == b"precious"
    assert not list(tmp_path.glob("*partial"))
