"""The kernel's NBD devices: find a free one, attach an export, detach it, tell whose it is. Edge.

Needs root, nbd-client and the kernel's module. What is attached is known by the process that the
kernel names for the device: a number that another attachment of the same device does not have.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Final

from blocksnapd.errors import BusyError, HostError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SYS_BLOCK: Final = "/sys/block"
COMMAND_LIMIT_S: Final = 60.0
SETTLE_LIMIT_S: Final = 10.0
_POLL_S: Final = 0.02
_PATH: Final = "/usr/sbin:/usr/bin:/sbin:/bin"
_NAME: Final = re.compile(r"nbd(\d+)")


class CommandFailedError(HostError):
    """A program of the host did not do what it was asked; ``said`` is what it printed."""

    def __init__(self, argv: list[str], said: str) -> None:
        super().__init__(f"{argv[0]}: {said or 'failed'}", effect="It was not done.")
        self.said = said


def run(*argv: str, first: Callable[[], None] | None = None) -> str:
    """Run a program of the host; return what it prints. ``first`` is done in its process before.

    Raises:
        HostError: there is none. CommandFailedError: it failed, or took too long.
    """
    program = shutil.which(argv[0], path=f"{os.environ.get('PATH', '')}:{_PATH}")
    if program is None:
        raise HostError(
            f"there is no {argv[0]} on this host", effect="Nothing was mounted.",
            hint=f"Install it: apt install {argv[0]}",
        )  # fmt: skip
    try:
        done = subprocess.run(
            [program, *argv[1:]], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", timeout=COMMAND_LIMIT_S, check=False,
            env={**os.environ, "LC_ALL": "C"}, preexec_fn=first,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise CommandFailedError([*argv], f"not done in {COMMAND_LIMIT_S:.0f} s") from error
    if done.returncode:
        raise CommandFailedError([*argv], (done.stderr or done.stdout).strip()[-2000:])
    return done.stdout


def make_ready() -> None:
    """See to it that the kernel has NBD devices.

    Raises:
        HostError: it has none.
    """
    if any(_numbers()):
        return
    try:
        run("modprobe", "nbd")
    except HostError as error:
        raise _no_devices(error.message) from error
    if not any(_numbers()):
        raise _no_devices("the module nbd is there, and made none")


def _no_devices(reason: str) -> HostError:
    return HostError(
        f"this kernel has no NBD devices: {reason}", effect="Nothing was mounted.",
        hint="Without them, copy files out with blocksnapctl ls and cp, or restore the point.",
    )  # fmt: skip


def free() -> list[str]:
    """Return the paths of devices that nothing is attached to.

    Raises:
        BusyError: there is none.
    """
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        mounted = file.read()  # one may be, although its server is gone
    found = [
        f"/dev/nbd{number}"
        for number in _numbers()
        if _is_free(f"nbd{number}") and f" /dev/nbd{number} " not in mounted
    ]
    if not found:
        raise BusyError(
            "every NBD device of this host is in use", effect="Nothing was mounted.",
            hint="Unmount something; blocksnapctl mount, without arguments, tells what is.",
        )  # fmt: skip
    return found


def attach(device: str, socket: str, expect: Callable[[str], None]) -> str:
    """Attach the export at ``socket`` to ``device``; return its mark.

    ``expect`` is told, before anything is attached, which mark it will most likely have: the
    process that attaches it. So it is known also to whoever comes after our sudden end.

    Raises:
        HostError: it is not attached.
    """
    run("nbd-client", "-unix", socket, device, first=lambda: expect(str(os.getpid())))
    deadline = time.monotonic() + SETTLE_LIMIT_S
    while (mark := mark_of(device)) is None or not _size(device):
        if time.monotonic() > deadline:
            raise HostError(f"{device} was attached, and did not appear")
        time.sleep(_POLL_S)
    return mark


def mark_of(device: str) -> str | None:
    """Return what marks the present attachment of ``device``; None: nothing is attached."""
    try:
        with open(f"{SYS_BLOCK}/{os.path.basename(device)}/pid", encoding="ascii") as file:
            return file.read(40).strip() or None
    except OSError:
        return None


def is_of(device: str, socket: str) -> bool:
    """Say whether a client that serves ``device`` was started for the export at ``socket``."""
    mark = mark_of(device)
    try:
        with open(f"/proc/{int(mark or '')}/cmdline", "rb") as file:
            return os.fsencode(socket) in file.read(1 << 16).split(b"\0")
    except (OSError, ValueError):
        return False


def detach(device: str) -> None:
    """Detach what is attached to ``device``; nothing is success.

    Raises:
        HostError: it is still attached.
    """
    if mark_of(device) is None:
        return
    run("nbd-client", "-d", device)
    deadline = time.monotonic() + SETTLE_LIMIT_S
    while mark_of(device) is not None:
        if time.monotonic() > deadline:
            raise HostError(
                f"{device} does not let go of its export", effect="It is still attached.",
                hint=f"Something uses it. Try again later: nbd-client -d {device}",
            )  # fmt: skip
        time.sleep(_POLL_S)


def _numbers() -> Iterator[int]:
    found = (_NAME.fullmatch(name) for name in os.listdir(SYS_BLOCK))
    return iter(sorted(int(name[1]) for name in found if name))


def _is_free(name: str) -> bool:
    return mark_of(name) is None and not _size(name)


def _size(device: str) -> int:
    try:
        with open(f"{SYS_BLOCK}/{os.path.basename(device)}/size", encoding="ascii") as file:
            return int(file.read(40))
    except (OSError, ValueError):
        return 0
