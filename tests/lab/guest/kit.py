"""What guest programs of the lab are made of: events, devices, volume groups, load, digests. Edge.

Runs inside a guest, as root, on disks that belong to the test: /dev/ubda, /dev/ubdb, ...
The project's own code is not used here, so that what this file says is independent of it.

Mind the guest: one processor, timer ticks of 10 ms, a page fault costs 50-100 us. So memory is
reused (one aligned buffer), and whatever is big is kept as digests, never as bytes.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

KIB, MIB = 1 << 10, 1 << 20
BUFFER_SIZE = MIB
RUN_LIMIT_S = 120.0
OUT = Path("/run/lab/out")
MOUNT = Path("/run/lab/m")


class CommandError(RuntimeError):
    """A command of the guest failed; the message has its words."""


# --- events -------------------------------------------------------------------------------------


def tell(event: str, **facts: object) -> None:
    """Tell the host ``event`` with JSON ``facts``; on return it is in the host's hands."""
    line = json.dumps({"event": event, **facts}).encode() + b"\n"
    fd = os.open(os.environ["LAB_EVENTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(fd, line)
        os.fsync(fd)
    finally:
        os.close(fd)


def tell_and_wait_for_kill(event: str, **facts: object) -> None:
    """Tell ``event`` and stop here: the host ends the guest while what was started goes on."""
    tell(event, **facts)
    while True:
        signal.pause()


# --- commands -----------------------------------------------------------------------------------


def run(*argv: str, check: bool = True, limit_s: float = RUN_LIMIT_S) -> str:
    """Return what ``argv`` prints, standard error included.

    Raises:
        CommandError: it failed (only with ``check``) or took longer than ``limit_s``.
    """
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, timeout=limit_s, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"{' '.join(argv)}: not ready after {limit_s} s") from error
    if check and done.returncode != 0:
        raise CommandError(f"{' '.join(argv)}: status {done.returncode}\n{done.stdout}")
    return done.stdout


def make_vg(name: str, *devices: str) -> None:
    """Make volume group ``name`` of whole ``devices``."""
    run("pvcreate", "-qqy", *devices)
    run("vgcreate", "-qqy", name, *devices)


def make_lv(vg: str, name: str, size: int, *more: str) -> str:
    """Make a logical volume of ``size`` bytes; ``more`` goes to lvcreate. Return its path."""
    run("lvcreate", "-qqy", "-Wy", "-n", name, "-L", f"{size}b", vg, *more)
    return f"/dev/{vg}/{name}"


def make_fs(kind: str, device: str, mount_point: Path) -> None:
    """Make a file system (xfs needs 300 MiB, ext4 any) and mount it."""
    quiet = {"xfs": ["-qf"], "ext4": ["-qF"]}[kind]
    run(f"mkfs.{kind}", *quiet, device)
    mount_point.mkdir(parents=True, exist_ok=True)
    run("mount", device, str(mount_point))


def attach_loop(file: Path, size: int) -> str:
    """Make ``file`` sparse with ``size`` bytes and attach it with direct I/O; return /dev/loopN."""
    with file.open("ab") as handle:
        handle.truncate(size)
    return run("losetup", "--direct-io=on", "--find", "--show", str(file)).strip()


def add_cow_space(vg: str, disk: str, size: int, mount_point: Path) -> str:
    """Make ext4 on ``disk``, a sparse file on it, its loop a PV of ``vg``; return the loop."""
    make_fs("ext4", disk, mount_point)
    loop = attach_loop(mount_point / "cow.img", size)
    run("pvcreate", "-qqy", loop)
    run("vgextend", "-qq", vg, loop)
    return loop


def make_snapshot(vg: str, origin: str, name: str, size: int, chunk_size: int, pv: str) -> str:
    """Make a read-only snapshot LV with ``size`` bytes of COW space on ``pv``; return its path."""
    run(
        "lvcreate", "-qq", "--permission", "r", "-n", name, "-L", f"{size}b",
        "--snapshot", "-c", f"{chunk_size}b", f"{vg}/{origin}", pv,
    )  # fmt: skip
    return f"/dev/{vg}/{name}"


def snapshot_status(dm_name: str) -> tuple[int, int, int]:
    """Return (allocated, total, metadata) sectors of a live snapshot.

    Raises:
        CommandError: the status is a word, such as Invalid.
    """
    words = run("dmsetup", "status", dm_name).split()
    allocated, slash, total = words[3].partition("/")
    if not slash:
        raise CommandError(f"{dm_name} is {' '.join(words[3:])}")
    return int(allocated), int(total), int(words[4])


def exception_count(dm_name: str, chunk_size: int) -> int:
    """Return how many exceptions the kernel counts in a snapshot (exact while nobody writes)."""
    allocated, _total, metadata = snapshot_status(dm_name)
    return (allocated - metadata) * 512 // chunk_size


# --- content ------------------------------------------------------------------------------------


def direct_pieces(path: str) -> Iterator[tuple[int, memoryview]]:
    """Yield (offset, bytes) of a whole device, past the page cache, up to 1 MiB at a time.

    The memory is used again for the next piece.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        buffer = mmap.mmap(-1, BUFFER_SIZE)
        offset = 0
        while got := os.preadv(fd, [buffer], offset):
            yield offset, memoryview(buffer)[:got]
            offset += got
    finally:
        os.close(fd)


def image_digest(path: str) -> str:
    """Return the SHA-256 of a whole device, read past the page cache."""
    whole = hashlib.sha256()
    for _offset, piece in direct_pieces(path):
        whole.update(piece)
    return whole.hexdigest()


def chunk_digests(path: str, chunk_size: int) -> list[bytes]:
    """Return 8 bytes per chunk of a whole device; ``chunk_size`` divides 1 MiB."""
    return [
        hashlib.blake2b(piece[at : at + chunk_size], digest_size=8).digest()
        for _offset, piece in direct_pieces(path)
        for at in range(0, len(piece), chunk_size)
    ]


def changed_chunks(before: Sequence[bytes], after: Sequence[bytes]) -> set[int]:
    """Return the numbers of the chunks that differ."""
    return {i for i, (old, new) in enumerate(zip(before, after, strict=True)) if old != new}


# --- load ---------------------------------------------------------------------------------------


class Writer:
    """A process that writes until it is stopped: ``with Writer(churn, MOUNT, 1): ...``.

    The body is called with the arguments; leaving the block ends it with SIGKILL and waits for it,
    at most 10 s: a writer on a suspended device can not be killed.
    """

    def __init__(self, body: Callable[..., None], *args: object) -> None:
        self.body = body
        self.args = args
        self.pid = 0

    def __enter__(self) -> Writer:
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self.body(*self.args)
            except BaseException as error:
                sys.stderr.write(f"{self.body.__name__}: {error!r}\n")
            os._exit(1)
        return self

    def __exit__(self, *_: object) -> None:
        os.kill(self.pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while os.waitpid(self.pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > deadline:
                raise CommandError(f"{self.body.__name__} does not end: is its device suspended?")
            time.sleep(0.01)

    def pause(self) -> None:
        """Stop it between two of its own system calls."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let a paused one go on."""
        os.kill(self.pid, signal.SIGCONT)


def churn(folder: Path, seed: int, *, files_max: int = 60) -> None:
    """Make, overwrite, append to, rename and delete files below ``folder``, for ever."""
    rng = random.Random(seed)
    block = rng.randbytes(256 * KIB)
    while True:
        place = folder / f"d{rng.randrange(6)}"
        place.mkdir(exist_ok=True)
        file = place / f"f{rng.randrange(files_max // 6)}"
        size = rng.choice((100, 4 * KIB, 30 * KIB, 200 * KIB))
        piece = memoryview(block)[rng.randrange(1000) :][:size]
        match rng.randrange(8):
            case 0:
                file.unlink(missing_ok=True)
            case 1 if file.exists():
                file.rename(place / f"f{rng.randrange(files_max // 6)}")
            case 2 if file.exists():
                with file.open("r+b") as handle:
                    handle.seek(rng.randrange(file.stat().st_size + 1))
                    handle.write(piece)
            case 3:
                fd = os.open(folder, os.O_RDONLY)
                os.fsync(fd)
                os.close(fd)
            case _:
                with file.open("wb") as handle:
                    handle.write(piece)
                    if rng.random() < 0.3:
                        handle.flush()
                        os.fsync(handle.fileno())


def scribble(device: str, seed: int, *, size_max: int = 64 * KIB) -> None:
    """Write random sectors at random places of ``device`` past the page cache, for ever."""
    rng = random.Random(seed)
    fd = os.open(device, os.O_WRONLY | os.O_DIRECT)
    end = os.lseek(fd, 0, os.SEEK_END)
    buffer = mmap.mmap(-1, size_max)
    buffer.write(rng.randbytes(size_max))
    while True:
        size = 512 * rng.randint(1, size_max // 512)
        buffer[:8] = rng.randbytes(8)
        os.pwrite(fd, memoryview(buffer)[:size], rng.randrange((end - size) // 512) * 512)


def write_chunks(device: str, first: int, count: int, chunk_size: int) -> None:
    """Overwrite ``count`` chunks from chunk ``first`` with random bytes, past the page cache."""
    fd = os.open(device, os.O_WRONLY | os.O_DIRECT)
    buffer = mmap.mmap(-1, chunk_size)
    for chunk in range(first, first + count):
        buffer[:16] = os.urandom(16)
        os.pwrite(fd, buffer, chunk * chunk_size)
    os.close(fd)
