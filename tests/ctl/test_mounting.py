"""What can be said of ``mount`` without a kernel; what it does is in tests/lab."""

from __future__ import annotations

import io
import json
import os
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from blocksnapctl import mount_records, mounting, nbd_devices
from blocksnapctl.output import Output
from blocksnapctl.places import Place
from blocksnapd.errors import (
    BusyError,
    HostError,
    NotAllowedError,
    NotFoundError,
    RefusedError,
    UsageError,
)
from tests.ctl.calling import call


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Records, devices and mounts that a test makes up."""
    monkeypatch.setattr(mount_records, "PLACE", str(tmp_path / "records"))
    monkeypatch.setattr(nbd_devices, "SYS_BLOCK", str(tmp_path / "block"))
    monkeypatch.setattr(mounting, "_MOUNTINFO", str(tmp_path / "mountinfo"))
    (tmp_path / "block").mkdir()
    (tmp_path / "mountinfo").write_text("")
    return tmp_path


def device(place: Path, name: str, *, size: int = 0, mark: str = "") -> None:
    (place / "block" / name).mkdir()
    (place / "block" / name / "size").write_text(f"{size}\n")
    if mark:
        (place / "block" / name / "pid").write_text(f"{mark}\n")


def test_a_record_is_what_was_added_last_even_if_torn(place: Path) -> None:
    with mount_records.locked():
        record = mount_records.new_record()
        record.add(directory="/x", device="/dev/nbd0")
        record.add(device="/dev/nbd1")
    (file,) = (p for p in (place / "records").iterdir() if not p.name.startswith("."))
    with file.open("a") as torn:
        torn.write('{"mark": "12')
    (found,) = mount_records.records()
    assert found.facts == {"directory": "/x", "device": "/dev/nbd1"}
    found.add(mark="7")
    (found,) = mount_records.records()
    assert found.facts["mark"] == "7", "what follows a torn line counts"
    found.forget()
    assert mount_records.records() == []


def test_devices_that_are_free(place: Path) -> None:
    for name, size, mark in (("nbd10", 0, ""), ("nbd2", 8, ""), ("nbd1", 0, "55"), ("nbd0", 0, "")):
        device(place, name, size=size, mark=mark)
    assert nbd_devices.free() == ["/dev/nbd0", "/dev/nbd10"]
    assert nbd_devices.mark_of("/dev/nbd1") == "55"
    assert not nbd_devices.is_of("/dev/nbd0", "/s")
    (place / "block/nbd0/size").write_text("8")
    (place / "block/nbd10/pid").write_text(str(os.getpid()))
    assert nbd_devices.is_of("/dev/nbd10", Path("/proc/self/cmdline").read_text().split("\0")[0])
    with pytest.raises(BusyError):
        nbd_devices.free()


def test_a_host_without_what_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nbd_devices, "_PATH", "/nowhere")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(HostError, match="no NBD devices") as told:
        nbd_devices.make_ready()
    assert "ls and cp" in told.value.hint
    with pytest.raises(HostError, match="there is no nbd-client") as told:
        nbd_devices.run("nbd-client")
    assert "apt install" in told.value.hint


def test_programs_that_fail_tell_why() -> None:
    assert nbd_devices.run("echo", "all well") == "all well\n"
    with pytest.raises(nbd_devices.CommandFailedError, match="cannot access") as told:
        nbd_devices.run("ls", "/no/such")
    assert "/no/such" in told.value.said


def test_what_another_has_mounted_meanwhile_is_not_touched(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our attachment is gone, and the device is somebody else's now."""
    done: list[tuple[str, ...]] = []

    monkeypatch.setattr(mounting, "run", lambda *argv: done.append(argv))
    device(place, "nbd0", size=8, mark="99")
    (place / "mountinfo").write_text("36 35 43:0 / /theirs rw - ext4 /dev/nbd0 rw\n")
    record = mount_records.Record(str(place / "record"))
    record.add(directory="/ours", device="/dev/nbd0", mark="12", socket="/s", control="")
    mounting._take_down(record)
    assert done == []
    assert not (place / "record").exists()


def test_what_is_ours_is_taken_down_from_the_top(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    monkeypatch.setattr(mounting, "run", lambda *argv: done.append(" ".join(argv)))
    monkeypatch.setattr(nbd_devices, "detach", lambda name: done.append(f"detach {name}"))
    device(place, "nbd0", size=8, mark="12")
    (place / "mountinfo").write_text(
        "36 35 43:0 / /a\\040b rw - ext4 /dev/nbd0 rw\n37 35 43:0 / /bound rw - ext4 /dev/nbd0 rw\n"
    )
    record = mount_records.Record(str(place / "record"))
    record.add(directory="/a b", device="/dev/nbd0", mark="12", socket="/s", control="/gone")
    mounting._take_down(record)
    assert done == ["umount /bound", "umount /a b", "detach /dev/nbd0"]


class Asked:
    def __init__(self, volumes: list[dict[str, Any]]) -> None:
        self.volumes = volumes

    def stream(self, *path: str) -> Any:
        yield {"volumes": self.volumes}


def volume(number: int, *, readable: bool = True) -> dict[str, Any]:
    return {"number": number, "kind": "xfs", "place": f"partition {number}", "readable": readable}


def test_which_file_system_is_meant() -> None:
    def of(volumes: list[dict[str, Any]], part: int | None = None) -> int:
        client: Any = Asked(volumes)
        return int(mounting._volume(client, "p1", Place("p1", part, ""))["number"])

    one, two = volume(1), volume(2)
    assert of([one]) == of([volume(1, readable=False)]) == 1, "a kernel may know more"
    assert of([volume(1, readable=False), two]) == 2
    assert of([one, two], 2) == 2
    with pytest.raises(UsageError, match="2 file systems"):
        of([one, two])
    with pytest.raises(UsageError):
        of([volume(1, readable=False), volume(2, readable=False)])
    with pytest.raises(NotFoundError):
        of([one], 2)


def test_where_nothing_can_be_mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(NotAllowedError, match="only root"):
        mounting._checked_directory(str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(NotFoundError):
        mounting._checked_directory(str(tmp_path / "none"))
    with pytest.raises(RefusedError, match="already"):
        mounting._checked_directory("/proc")
    assert mounting._checked_directory(str(tmp_path)) == str(tmp_path)
    assert call("unmount", str(tmp_path)).code == 11
    assert call("mount", "p1").code == 2


def test_what_is_mounted_is_told(place: Path) -> None:
    assert call("mount").err == "blocksnapctl mounted nothing.\n"
    with mount_records.locked():
        mount_records.new_record().add(
            directory="/mnt", device="/dev/nbd3", point="p1", volume="vg0/home", writable=True
        )
    assert call("mount").out.splitlines()[1].split() == [
        "/mnt",
        "/dev/nbd3",
        "p1",
        "vg0/home",
        "rw",
    ]
    assert call("mount", "--plain").out == "/mnt\t/dev/nbd3\tp1\tvg0/home\tTrue\n"
    assert call("mount", "--json").lines[0]["mounts"][0]["directory"] == "/mnt"
    out = io.StringIO()
    arguments = Namespace(json=True, plain=False, quiet=False, verbose=False, no_color=True)
    context: Any = Namespace(output=Output(out, io.StringIO(), arguments, {}))
    mounting._tell(context, mount_records.records()[0])
    assert json.loads(out.getvalue())["device"] == "/dev/nbd3"
