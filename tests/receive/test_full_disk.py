"""A disk under a receiver that is really full: a small file system, filled by somebody else."""

from __future__ import annotations

import contextlib
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from blocksnapd.errors import StoreFullError
from blocksnapd.receive.roots import DirectoryRoot
from blocksnapd.store import pack_writer
from blocksnapd.store.files import LocalStore
from blocksnapd.store.repository import Repository
from blocksnapd.store.steady import Line
from blocksnapd.store.steady_receiver import SteadyReceiver
from tests.receive.running import Running
from tests.restore.loop_device import one_at_a_time
from tests.store.support import VOLUME, Lab, make_repository

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB = 1 << 20
DISK_SIZE = 16 * MIB

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")


@pytest.fixture(params=["tmpfs", "ext4"])
def disk(request, tmp_path) -> Iterator[Path]:
    """A file system of ``DISK_SIZE``, in memory or in a file."""
    place, image = tmp_path / "disk", tmp_path / "image"
    place.mkdir()
    argv = ["-t", "tmpfs", "-o", f"size={DISK_SIZE}", "tmpfs"]
    if request.param == "ext4":
        with image.open("wb") as file:
            file.truncate(DISK_SIZE)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
        argv = ["-o", "loop", str(image)]
    try:
        with one_at_a_time():
            done = subprocess.run(["mount", *argv, str(place)], check=False, capture_output=True)
    except OSError as error:
        pytest.skip(f"cannot mount here: {error}")
    if done.returncode:
        pytest.skip(f"cannot mount here: {done.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path, left: int) -> Path:
    """Have all but about ``left`` bytes taken by a file of somebody else; return it."""
    path = disk / "somebody-else"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize > left:
            file.write(bytes(64 << 10))
    return path


def ship(lab: Lab, changed: object) -> None:
    """Make the second point, or leave as a cycle does."""
    sink = lab.sink(2)
    try:
        lab.feed(sink, changed)
        sink.commit(lab.facts("delta", 2))
    except BaseException:
        sink.abort()
        raise


def objects(root: Path) -> list[str]:
    return LocalStore(str(root)).list_names("v/")


@pytest.mark.parametrize("left", [0, 300_000, 1_200_000, 2_000_000])
def test_no_room_in_the_middle_of_a_put(disk, monkeypatch, left):
    """The reserve is looked at before a put; the disk is full by the time the bytes come."""
    monkeypatch.setattr(pack_writer, "PACK_SIZE_TARGET", 700_000)
    monkeypatch.setattr(pack_writer, "BATCH_SIZE", 65536)
    with Running(disk) as receiver:
        (receiver.root / "db01").mkdir()
        keys = make_repository(LocalStore(str(receiver.root / "db01")))
        store = SteadyReceiver(receiver.store("source"), Line())
        lab = Lab(store=store, keys=keys, blocks=600)
        lab.write(range(10, 60))
        lab.commit()
        before = objects(receiver.root / "db01")
        monkeypatch.setattr(DirectoryRoot, "free_size", lambda _: DISK_SIZE)
        others = fill(disk, left)
        changed = lab.write(range(600), noise=True)
        with pytest.raises(StoreFullError) as refused:
            ship(lab, changed)
        assert refused.value.code == "E-REPO-FULL"
        assert "no room" in refused.value.message
        assert "Free room" in refused.value.hint
        assert lab.writer.newest(VOLUME).seq == 1
        new = [name for name in objects(receiver.root / "db01") if name not in before]
        reader = Repository.on(LocalStore(str(receiver.root / "db01")), restore=keys)
        assert reader.verify(reader.points(VOLUME)[-1]).is_whole
        assert all(name.endswith(".pk") for name in new)  # whole ones, of no point
        assert not [p for p in receiver.root.rglob(".tmp/*") if p.is_file()]
        others.unlink()
        lab.commit(changed, number=2)
        lab.reader = reader
        lab.check_all()
