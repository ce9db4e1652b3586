"""Opening a configured volume: its identity, its directory, what is looked at first."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from blocksnapd.config import Config, load
from blocksnapd.cycle.lvm import Lvm
from blocksnapd.errors import ConfigError, DeviceMapperError, StateError
from blocksnapd.keep_rules import parse_rule
from blocksnapd.maintain.prune import Pruner
from blocksnapd.maintain.retention import Policy
from blocksnapd.runtime import durable
from blocksnapd.runtime.clock import ManualClock
from blocksnapd.service.opening import VolumeOpener, as_cow_space, state_directory
from blocksnapd.store.files import LocalStore
from blocksnapd.store.init import init_repository
from blocksnapd.store.keys import load_restore
from tests.store.support import Lab, point_id

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = """\
schema = 1
[daemon]
state_dir = "{path}/state"
[target.near]
url = "{path}/repository"
source_key = "{path}/keys/source.key"
[cow.spare]
file = "{path}/cow.img"
vg = "vg0"
reserve = "64 MiB"
[volume."{path}/disk.img"]
[volume."{path}/disk_img"]
[volume."vg0/home"]
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    init_repository(str(tmp_path / "repository"), str(tmp_path / "keys"))
    for name in ("disk.img", "disk_img"):
        (tmp_path / name).write_bytes(b"x" * 8192)
    (tmp_path / "blocksnap.toml").write_text(CONFIG.format(path=tmp_path))
    return load(str(tmp_path / "blocksnap.toml"))


def opener(config: Config, name: str, said: list[str] | None = None) -> VolumeOpener:
    told: list[str] = [] if said is None else said

    def say(kind: str, message: str, **_: object) -> None:
        told.append(kind)

    return VolumeOpener(config, config.volumes[name], lvm=Lvm(), clock=ManualClock(), say=say)


def test_every_volume_has_a_directory_of_its_own(config: Config) -> None:
    places = {state_directory(config, name) for name in config.volumes}
    assert len(places) == 3
    assert {os.path.dirname(place) for place in places} == {f"{config.daemon.state_dir}/volumes"}


async def test_a_file_keeps_its_identity(config: Config, tmp_path: Path) -> None:
    """Over restarts and when its content is replaced; no two files have the same."""
    first, second, _ = config.volumes
    found = (await opener(config, first)()).volume.volume_id
    assert (await opener(config, second)()).volume.volume_id != found
    (tmp_path / "disk.img").unlink()
    (tmp_path / "disk.img").write_bytes(b"y" * 4096)
    again = await opener(config, first)()
    assert again.volume.volume_id == found
    assert again.watch is None
    assert (again.volume.block_size, again.volume.name) == (4096, first)


@pytest.mark.parametrize("data", [b"", b"scan-1234\n", b"\xff" * 37, b"scan-" + b"0" * 33])
async def test_a_damaged_identity_is_asked_for_not_guessed(config: Config, data: bytes) -> None:
    """Another one would begin a new history, and the old one would seem to have ended."""
    name = next(iter(config.volumes))
    await opener(config, name)()
    path = os.path.join(state_directory(config, name), "id")
    durable.replace(path, data)
    with pytest.raises(StateError, match="does not hold the id") as caught:
        await opener(config, name)()
    assert path in caught.value.message
    assert "untouched" in caught.value.effect


async def test_without_device_mapper_nothing_is_attached(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cow.img").write_bytes(bytes(1 << 20))
    # Also where the machine has one.
    monkeypatch.setattr("blocksnapd.service.opening.Control", _no_device_mapper)
    monkeypatch.setattr("blocksnapd.cycle.cow_space.attach", _must_not_be_called)
    with pytest.raises(DeviceMapperError, match="none here"):
        await opener(config, "vg0/home")()


def _no_device_mapper() -> None:
    raise DeviceMapperError("none here")


def _must_not_be_called(*_: object) -> None:
    raise AssertionError("it was attached")


def test_chunks_smaller_than_the_blocks_of_the_history_are_refused(config: Config) -> None:
    """Blocks are fixed by the first point; the configuration may say something else by now."""
    found = opener(config, "vg0/home")
    lab = Lab(blocks=8, block_size=16384)
    lab.write(range(4))
    with pytest.raises(ConfigError, match=r"cow.chunk is 4096 bytes, smaller than the blocks of"):
        found._check_block_size(lab.commit().head)
    found._check_block_size(None)


def test_a_cow_space_as_its_driver_knows_it(config: Config, tmp_path: Path) -> None:
    space = as_cow_space(config.cow["spare"])
    assert (space.file, space.vg) == (str(tmp_path / "cow.img"), "vg0")
    assert (space.size, space.reserve) == (None, 64 << 20)


async def test_what_is_held_and_forgotten_is_known_from_the_start(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyed = config.targets["near"].model_copy(
        update={"maintenance_key": str(tmp_path / "keys" / "maintenance.key")}
    )
    config = config.model_copy(update={"targets": {"near": keyed}})
    name, said = next(iter(config.volumes)), list[str]()
    volume_id = (await opener(config, name, said)()).volume.volume_id
    keys = load_restore(str(tmp_path / "keys" / "restore.key"))
    monkeypatch.setattr("tests.store.support.VOLUME", volume_id)
    lab = Lab(store=LocalStore(str(tmp_path / "repository")), keys=keys)
    for _ in range(3):
        lab.commit(lab.write([1]) if lab.kept else None)
    pruner = Pruner(lab.store, keys, ManualClock().now)
    policy = Policy((parse_rule("all for 1m"),), min_points=1)
    pruner.hold(volume_id, point_id(2), reason="audit")
    pruner.apply(pruner.plan(volume_id, policy))
    catalogue = (await opener(config, name, said)()).catalogue
    assert [(p["seq"], "held" in p) for p in catalogue.points()] == [(2, True), (3, False)]
    every = catalogue.points(with_forgotten=True)
    assert [("forgotten" in p) for p in every] == [True, False, False]
    assert said == []
    (tmp_path / "keys" / "maintenance.key").unlink()
    catalogue = (await opener(config, name, said)()).catalogue
    assert len(catalogue.points()) == 3  # it is protected all the same
    assert said == ["manifest-unread"]
