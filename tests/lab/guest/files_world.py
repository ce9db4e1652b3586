"""Guest: file systems as a real kernel writes them, with all that files can have.

Tells, for each disk, what is on it: path → facts. The first disk is left frozen and mounted, the
last as a crash leaves it, and the host reads both beside us.
"""

import ctypes
import hashlib
import os
import random
import stat
import struct
from pathlib import Path

from tests.lab.guest import kit

KINDS = {
    "frozen": ("/dev/ubda", ["mkfs.xfs", "-qf"]),
    "xfs-1k-v4": ("/dev/ubdb", ["mkfs.xfs", "-qf", "-m", "crc=0", "-b", "size=1024", "-n",
                                "size=8192"]),
    "ext4": ("/dev/ubdc", ["mkfs.ext4", "-qF", "-O", "ea_inode,inline_data", "-I", "512"]),
    "ext3": ("/dev/ubdd", ["mkfs.ext3", "-qF", "-b", "1024"]),
}  # fmt: skip
LVM_DISK, CRASHED_DISK = "/dev/ubde", "/dev/ubdf"
LIST_ENTRIES = (
    (1, 6, 0xFFFFFFFF), (2, 7, 1001), (4, 4, 0xFFFFFFFF), (8, 5, 50), (16, 7, 0xFFFFFFFF),
    (32, 0, 0xFFFFFFFF),
)  # fmt: skip
ACCESS_LIST = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in LIST_ENTRIES)
FALLOC = ctypes.CDLL(None, use_errno=True).fallocate


def fill(top: Path, kind: str) -> None:
    dice = random.Random(kind)
    (top / "small").write_bytes(b"a few bytes")
    (top / "file").write_bytes(dice.randbytes(1_000_003))
    with (top / "pieces").open("wb") as file:  # more extents than fit into an inode
        for number in range(0, 600, 2):
            file.seek(number * 4096)
            file.write(dice.randbytes(900))
        file.truncate(9_000_000)
    with (top / "unwritten").open("wb") as file:
        if kind != "ext3":  # it knows no such thing
            FALLOC(file.fileno(), 0, ctypes.c_long(0), ctypes.c_long(700_000))
        file.seek(300_000)
        file.write(b"written" * 100)
    for number in range(700):
        (top / "many").mkdir(exist_ok=True)
        (top / "many" / f"{number}{'n' * (number % 120)}").touch()
    for number in range(0, 700, 3):
        (top / "many" / f"{number}{'n' * (number % 120)}").unlink()
    deep = top
    for number in range(60):
        deep = deep / f"d{number}"
        deep.mkdir()
    (deep / "bottom").write_bytes(b"deep")
    os.link(top / "file", deep / "hard")
    (top / "link").symlink_to("file")
    (top / "long").symlink_to("x/" * 500)
    (top / os.fsdecode(b"\xff\xfe odd")).write_bytes(b"odd")
    os.mkfifo(top / "fifo", 0o640)
    os.mknod(top / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(top / "disk", stat.S_IFBLK | 0o600, os.makedev(259, 70000))
    attributes(top, kind, dice)
    os.chown(top / "small", 100_001, 65_534)
    (top / "small").chmod(0o6751)
    os.utime(top / "file", ns=(1, 4_000_000_000_123_456_789 if kind == "frozen" else 10**18))
    os.utime(top / "pieces", ns=(-(10**18), -123_456_789_000_000_000))


def attributes(top: Path, kind: str, dice: random.Random) -> None:
    os.setxattr(top / "small", "user.one", b"1")
    os.setxattr(top / "small", "trusted.hidden", b"yes")
    os.setxattr(top / "small", "security.anything", b"\0\1\2")
    os.setxattr(top / "file", "system.posix_acl_access", ACCESS_LIST)
    os.setxattr(top / "many", "system.posix_acl_default", ACCESS_LIST)
    (top / "attributes").touch()
    large, count = {"ext3": (300, 5), "ext4": (20_000, 12)}.get(kind, (60_000, 120))
    os.setxattr(top / "attributes", "user.large", dice.randbytes(large))
    for number in range(count):
        os.setxattr(top / "attributes", f"user.number{number}", dice.randbytes(20))
    (top / "alone").touch()
    os.setxattr(top / "alone", "user.alone", dice.randbytes(large))


def seen(top: Path) -> dict[str, dict[str, object]]:
    found = {}
    for where, directories, files in os.walk(os.fsencode(top)):
        for name in (*directories, *files):
            place = os.path.join(where, name)
            path = os.path.relpath(place, os.fsencode(top)).hex()
            found[path] = facts(place)
    return found


def facts(place: bytes) -> dict[str, object]:
    status = os.lstat(place)
    kind = stat.S_IFMT(status.st_mode)
    told: dict[str, object] = {
        "mode": status.st_mode, "owner": [status.st_uid, status.st_gid], "links": status.st_nlink,
        "mtime": status.st_mtime_ns, "atime": status.st_atime_ns,
        "xattrs": {
            name: os.getxattr(place, name, follow_symlinks=False).hex()
            for name in sorted(os.listxattr(place, follow_symlinks=False))
            if not name.startswith("trusted.SGI_ACL_")  # XFS lists access lists twice
        },
    }  # fmt: skip
    if kind == stat.S_IFREG:
        with open(place, "rb") as file:
            told |= {"size": status.st_size, "data": hashlib.sha256(file.read()).hexdigest()}
    elif kind == stat.S_IFLNK:
        told["to"] = os.fsencode(os.readlink(place)).hex()
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        told["device"] = [os.major(status.st_rdev), os.minor(status.st_rdev)]
    return told


def main() -> None:
    for kind, (disk, make) in reversed(KINDS.items()):
        top = kit.MOUNT / kind
        top.mkdir()
        kit.run(*make, disk)
        kit.run("mount", "-o", "noatime", disk, str(top))
        fill(top, kind)
        kit.tell("made", kind=kind, files=seen(top))
        if kind == "frozen":
            kit.run("fsfreeze", "-f", str(top))
        else:
            kit.run("umount", str(top))
    kit.make_vg("vg", LVM_DISK)
    place = kit.MOUNT / "lvm"
    kit.make_lv("vg", "first", 16 * kit.MIB)
    kit.make_lv("vg", "between", 4 * kit.MIB)
    kit.run("lvextend", "-qq", "-L", "32m", "vg/first")  # now in two pieces
    kit.make_fs("ext4", "/dev/vg/first", place)
    kit.run("mount", "-o", "remount,noatime", str(place))
    (place / "in-lvm").write_bytes(random.Random(1).randbytes(15_000_000))
    kit.tell("made", kind="lvm", files=seen(place))
    kit.run("umount", str(place))
    kit.make_fs("ext4", CRASHED_DISK, place)
    (place / "synced").write_bytes(b"here")
    os.sync()
    kit.tell_and_wait_for_kill("all made")


if __name__ == "__main__":
    main()
