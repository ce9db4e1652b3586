"""What a restore refuses to write to, on real files and loop devices."""

from __future__ import annotations

import os
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest

from blocksnapd.errors import BlocksnapError, HostError, NotAllowedError, RefusedError
from blocksnapd.restore import target
from blocksnapd.restore.device_target import DeviceTarget
from blocksnapd.restore.file_target import FileTarget
from blocksnapd.restore.target import TargetPlan, examine, open_target
from blocksnapd.units import MIB
from tests.restore.loop_device import loop_device, mounted

if TYPE_CHECKING:
    from pathlib import Path


def refused(path: object, *, size: int = MIB, data: int = 0, overwrite: bool = False) -> str:
    """Return the sentences of the refusal; each says that nothing was written, and what to do."""
    with pytest.raises(RefusedError) as caught:
        examine(str(path), image_size=size, data_size=data, overwrite=overwrite)
    assert "Nothing was written." in caught.value.effect
    assert caught.value.hint
    return caught.value.message


def test_a_new_file_is_welcome_and_not_touched_by_looking(tmp_path: Path) -> None:
    path = tmp_path / "new.img"
    plan = examine(str(path), image_size=MIB, data_size=0)
    assert plan == TargetPlan(str(path), "file", 0, replaces=False)
    assert not list(tmp_path.iterdir())
    target = open_target(plan)
    assert isinstance(target, FileTarget)
    target.abandon()


def test_an_existing_file_needs_to_be_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "old.img"
    path.write_bytes(b"precious")
    assert refused(path) == f"{path} exists."
    assert examine(str(path), image_size=MIB, data_size=0, overwrite=True).replaces
    assert path.read_bytes() == b"precious"


def test_a_link_leads_to_the_real_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real")
    plan = examine(str(tmp_path / "link"), image_size=MIB, data_size=0)
    assert plan.path == str(tmp_path / "real")


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "typo" / "new.img"
    assert refused(path) == f"The directory {tmp_path}/typo does not exist."


def test_a_directory_and_a_character_device_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        assert refused(path, overwrite=True) == f"{path} is neither a file nor a block device."


def test_a_mistyped_device_does_not_become_a_file_in_memory() -> None:
    assert refused("/dev/no-such-disk") == "There is no block device /dev/no-such-disk."


def test_the_repository_is_kept_out_of(tmp_path: Path) -> None:
    repository = tmp_path / "repo"
    (repository / "packs").mkdir(parents=True)
    (tmp_path / "sideways").symlink_to(repository)
    for inside in (repository / "x", repository / "packs/x", tmp_path / "sideways/x"):
        with pytest.raises(RefusedError, match="lies inside the repository"):
            examine(str(inside), image_size=1, data_size=0, keep_out=[str(repository)])
    beside = tmp_path / "repo-2"
    examine(str(beside), image_size=1, data_size=0, keep_out=[str(repository)])


def test_a_full_disk_is_seen_before_it_is_full(tmp_path: Path) -> None:
    assert "free, the image needs" in refused(tmp_path / "new", size=1 << 60, data=1 << 60)
    examine(str(tmp_path / "new"), image_size=1 << 60, data_size=MIB)


def test_what_a_killed_restore_left_counts_as_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "new.blocksnap-partial").write_bytes(bytes(MIB))
    assert target.partial_size(str(tmp_path / "new")) >= MIB
    monkeypatch.setattr(target, "partial_size", lambda _: 1 << 60)
    examine(str(tmp_path / "new"), image_size=1 << 60, data_size=1 << 60)


def test_a_directory_without_rights_is_told(tmp_path: Path) -> None:
    program = (
        "import os, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "from blocksnapd.restore.target import examine\n"
        "from blocksnapd.errors import NotAllowedError\n"
        "try: examine(sys.argv[1], image_size=1, data_size=0)\n"
        "except NotAllowedError as error: print(error.message)"
    )
    if os.geteuid():
        tmp_path.chmod(0o500)
        with pytest.raises(NotAllowedError, match="No right"):
            examine(str(tmp_path / "new"), image_size=1, data_size=0)
        return
    import sys

    done = subprocess.run(
        [sys.executable, "-c", program, "/etc/new.img"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "No right to create files in /etc."


def test_a_blank_device_is_welcome(tmp_path: Path) -> None:
    with loop_device(tmp_path, 2 * MIB) as device:
        plan = examine(device, image_size=2 * MIB, data_size=MIB)
        assert plan == TargetPlan(device, "device", 2 * MIB, replaces=False)
        target = open_target(plan)
        assert isinstance(target, DeviceTarget)
        target.abandon()


def test_a_larger_device_is_welcome_with_a_note(tmp_path: Path) -> None:
    with loop_device(tmp_path, 2 * MIB) as device:
        plan = examine(device, image_size=MIB, data_size=MIB)
        assert plan.notes == (
            f"{device} is larger than the image; its last 1.0 MiB stay as they are.",
        )


def test_a_smaller_device_is_refused(tmp_path: Path) -> None:
    with loop_device(tmp_path, MIB) as device:
        assert "it does not fit" in refused(device, size=MIB + 1)


def test_a_read_only_device_is_refused(tmp_path: Path) -> None:
    with loop_device(tmp_path, MIB, read_only=True) as device:
        assert refused(device) == f"{device} is read-only."


def test_what_a_device_holds_is_named_and_overwritten_only_when_asked(tmp_path: Path) -> None:
    with loop_device(tmp_path, 8 * MIB) as device:
        subprocess.run(["mkfs.ext4", "-q", device], check=True, timeout=30)
        assert refused(device) == f"{device} holds an ext2/3/4 file system."
        plan = examine(device, image_size=8 * MIB, data_size=0, overwrite=True)
        assert plan.notes == (f"{device} holds an ext2/3/4 file system, which is overwritten.",)


def test_a_member_of_something_larger_is_never_overwritten(tmp_path: Path) -> None:
    with loop_device(tmp_path, MIB) as device:
        with open(device, "r+b") as file:
            file.seek(512)
            file.write(b"LABELONE")
        assert refused(device, overwrite=True) == f"{device} is an LVM physical volume."


def test_a_mounted_device_is_refused_whatever_is_asked(tmp_path: Path) -> None:
    with loop_device(tmp_path, 8 * MIB) as device:
        subprocess.run(["mkfs.ext4", "-q", device], check=True, timeout=30)
        with mounted(device, tmp_path / "place"):
            wanted = f"{device} is in use: mounted at {tmp_path}/place."
            assert refused(device, overwrite=True) == wanted


def test_a_device_held_by_something_unseen_is_refused(tmp_path: Path) -> None:
    """An exclusive open in this very process stands for the users no file in /proc shows."""
    with loop_device(tmp_path, MIB) as device:
        plan = examine(device, image_size=MIB, data_size=0)
        fd = os.open(device, os.O_RDONLY | os.O_EXCL)
        try:
            assert "held by another program or by the kernel" in refused(device)
            with pytest.raises(RefusedError, match="in use"):
                open_target(plan)
        finally:
            os.close(fd)


def test_a_file_under_a_loop_device_is_refused_whatever_is_asked(tmp_path: Path) -> None:
    with loop_device(tmp_path, MIB) as device:
        path = tmp_path / f"loop-{MIB}.img"
        wanted = f"{path} is in use: attached to {device}."
        assert refused(path, overwrite=True) == wanted


def test_a_target_that_vanished_is_a_sentence(tmp_path: Path) -> None:
    directory = tmp_path / "stick"
    directory.mkdir()
    plan = examine(str(directory / "new"), image_size=1, data_size=0)
    directory.rmdir()
    with pytest.raises(HostError, match="cannot be opened: No such file") as caught:
        open_target(plan)
    assert isinstance(caught.value, BlocksnapError)
    assert caught.value.hint


def test_the_image_is_private_from_its_first_byte(tmp_path: Path) -> None:
    target = open_target(examine(str(tmp_path / "new"), image_size=1, data_size=0))
    assert [stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()] == [0o600]
    target.abandon()
    assert not list(tmp_path.iterdir())
