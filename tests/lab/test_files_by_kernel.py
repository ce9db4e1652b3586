"""File systems that a real kernel wrote, read without one: every byte and attribute."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING, Any

import pytest

from blocksnapd.files.nodes import RUN_SIZE_MAX
from blocksnapd.files.source import ImageSource
from blocksnapd.files.volumes import chosen, volumes_of
from tests.files.corpus import FileImage, copy, facts_of
from tests.lab.machine import GUEST_DIR, repeat_aborted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from blocksnapd.files.nodes import FileSystem, Node
    from tests.conftest import MakeMachine
    from tests.lab.machine import Machine

MIB = 1 << 20
DISKS = {"frozen": 320 * MIB, "xfs-1k-v4": 320 * MIB, "ext4": 48 * MIB, "ext3": 32 * MIB,
         "lvm": 64 * MIB, "crashed": 16 * MIB}  # fmt: skip

pytestmark = pytest.mark.lab


def test_what_a_kernel_wrote(make_machine: MakeMachine, tmp_path: Path) -> None:
    machine = make_machine(list(DISKS.values()))
    made = repeat_aborted(lambda: filled(machine))
    disks = dict(zip(DISKS, machine.disks, strict=True))
    for kind, wanted in made.items():
        files = opened(disks[kind])
        assert files.notes == [], "a freeze leaves nothing to replay, nor does an unmount"
        assert dict(seen(files)) == wanted, kind
    assert "journal was not replayed" in opened(disks["crashed"]).notes[0]
    if os.geteuid() == 0:
        copied(opened(disks["frozen"]), made["frozen"], tmp_path)


def filled(machine: Machine) -> dict[str, Any]:
    machine.blank()
    guest = machine.boot(GUEST_DIR / "files_world.py")
    guest.wait_for("all made", limit_s=240)
    guest.kill()
    return {e["kind"]: e["files"] for e in guest.events() if e["event"] == "made"}


def opened(disk: Path) -> FileSystem:
    volumes = volumes_of(ImageSource(FileImage(disk)))
    assert [v.name for v in volumes] in (["the whole image"], ["vg/first", "vg/between"])
    return chosen(volumes, None)


def seen(files: FileSystem) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield what the guest told, read by us."""
    left = [(b"", files.node(files.root))]
    while left:
        where, directory = left.pop()
        for entry in files.entries(directory):
            node, place = files.node(entry.number), where + entry.name
            assert entry.type in (0, node.type)
            yield place.hex(), facts(files, node)
            if node.is_directory:
                left.append((place + b"/", node))


def facts(files: FileSystem, node: Node) -> dict[str, object]:
    told: dict[str, object] = {
        "mode": node.mode, "owner": [node.uid, node.gid], "links": node.links,
        "mtime": node.mtime_ns, "atime": node.atime_ns,
        "xattrs": {name.decode(): value.hex() for name, value in sorted(files.xattrs(node))},
    }  # fmt: skip
    if node.type == stat.S_IFREG:
        told |= {"size": node.size, "data": hashlib.sha256(content(files, node)).hexdigest()}
    elif node.is_link:
        told["to"] = files.link(node).hex()
    elif node.type in (stat.S_IFCHR, stat.S_IFBLK):
        told["device"] = list(node.device)
    return told


def content(files: FileSystem, node: Node) -> bytes:
    found = bytearray(node.size)
    inline = files.inline(node)
    if inline is not None:
        found[: len(inline)] = inline
        return bytes(found)
    for run in files.runs(node):
        assert run.length <= 16 * RUN_SIZE_MAX
        for at in range(0, run.length, MIB):
            size = min(MIB, run.length - at)
            found[run.start + at : run.start + at + size] = files.source.read_at(
                run.place + at, size
            )
    return bytes(found)


def copied(files: FileSystem, wanted: dict[str, Any], to: Path) -> None:
    """Copy it all, and see that the host's kernel tells of the copy what the guest's told."""
    report = copy(files, b"/", to / "copy")
    assert report.damaged == []
    left_out = {"fifo", "null", "disk"}
    for path, told in wanted.items():
        name = os.fsdecode(bytes.fromhex(path))
        if name in left_out:
            continue
        found = facts_of(to / "copy" / name)
        assert found["mode"] == told["mode"], name
        assert found["owner"] == tuple(told["owner"]), name
        if "to" not in told:
            assert found["mtime"] == told["mtime"], name
            for attribute, value in told["xattrs"].items():
                # The host's file system may hold fewer, and lists only to those who may have them.
                if not any(text.startswith("attribute") for text in report.notes):
                    assert found["xattrs"][attribute].hex() == value, (name, attribute)
        if name == "small":
            assert found["xattrs"]["user.one"] == b"1"
        if "data" in told:
            assert hashlib.sha256(found["content"]).hexdigest() == told["data"], name
    assert sum(1 for text in report.notes if text.startswith("left out")) == 3
