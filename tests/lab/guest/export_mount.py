"""Guest: points exported by the real command, used by the kernel's own NBD client.

Arguments: the repository, its key, then points as KIND=ID. Tells what mounted how, and what was in
it. The exports are processes of their own, ended as by Ctrl-C.
"""

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab.guest import kit

DEVICE = "/dev/nbd0"
REPOSITORY, KEY, *POINTS = sys.argv[1:]


@contextmanager
def exported(*words: str) -> Iterator[str]:
    """Export every point; return the path of the socket."""
    process = subprocess.Popen(
        [sys.executable, "-m", "blocksnapctl", "export", "--repo", REPOSITORY, "--key", KEY,
         "--plain", *words],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip().partition("socket=")[2]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


@contextmanager
def attached(socket: str, point: str, *words: str) -> Iterator[None]:
    """Attach the export of a point to the kernel's block device."""
    kit.run("nbd-client", "-unix", socket, DEVICE, "-N", point, *words)
    try:
        yield
    finally:
        kit.run("nbd-client", "-d", DEVICE)


@contextmanager
def mounted(*words: str) -> Iterator[Path]:
    kit.run("mount", *words, DEVICE, str(kit.MOUNT))
    try:
        yield kit.MOUNT
    finally:
        kit.run("umount", str(kit.MOUNT))


def digests(place: Path) -> dict[str, str]:
    return {
        str(file.relative_to(place)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(place.rglob("*"))
        if file.is_file()
    }


def read_only(socket: str, kind: str, point: str) -> None:
    with attached(socket, point):
        kit.tell(
            "device", kind=kind, image=kit.image_digest(DEVICE) if kind == "ext4" else "",
            read_only=Path("/sys/block/nbd0/ro").read_text().strip(),
        )  # fmt: skip
        refused = kit.run("mount", "-o", "ro", DEVICE, str(kit.MOUNT), check=False)
        kit.tell("log", kind=kind, said=refused)
        with mounted("-o", "ro,norecovery") as place:
            kit.tell("seen", kind=kind, files=len(digests(place)))


def writable(socket: str, kind: str, point: str) -> None:
    with attached(socket, point, "-C", "2"):
        with mounted() as place:
            kit.tell("replayed", kind=kind, digests=digests(place))
            (place / "new").write_bytes(os.urandom(3_000_000))
            new = hashlib.sha256((place / "new").read_bytes()).hexdigest()
            kit.run("fstrim", str(place))
        with mounted() as place:
            kit.tell("kept", kind=kind, same=digests(place)["new"] == new)
        checked = kit.run(*CHECKS[kind], DEVICE, check=False)
        kit.tell("checked", kind=kind, said=checked[-400:])
    with attached(socket, point), mounted() as place:  # another client, another layer
        kit.tell("thrown", kind=kind, digests=digests(place))


CHECKS = {"xfs": ["xfs_repair", "-n"], "ext4": ["e2fsck", "-fn"]}


def main() -> None:
    points = dict(found.split("=") for found in POINTS)
    for use, words in ((read_only, ()), (writable, ("--writable",))):
        with exported(*words) as socket:
            for kind, point in points.items():
                use(socket, kind, point)


if __name__ == "__main__":
    main()
