"""Boots user-mode Linux guests with a real device-mapper, listens to them, kills them. Edge.

A *machine* is a directory on the host with disk images and a window ``out`` that guest and host
both write to. A *guest* is one boot of it: it runs one Python program with the project's own
interpreter, on the host's files (read-only), and tells the host what happens in events, one line
of JSON each in ``out/events``. The disks outlive the guest, so that ``kill`` at any moment and
``boot`` again is a crash and a restart.

    machine = Machine(folder, disk_sizes=[GIB, 2 * GIB])
    guest = machine.boot(GUEST_DIR / "load.py", "xfs")
    guest.wait_for("loaded")
    guest.kill()
    result = machine.run(GUEST_DIR / "check.py")

Rules of this file: every wait has a limit; every failure shows the guest's console; a guest that
ends by itself before its program has ended (about one boot in a hundred) is a GuestAbortedError,
never a failed test: ``boot`` repeats it before the program starts, ``run(blank=True)`` repeats the
whole, and ``repeat_aborted`` repeats what needs several boots.
"""

from __future__ import annotations

import compileall
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tests.lab.processor import on_one_processor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PROJECT = Path(__file__).resolve().parents[2]
GUEST_DIR = Path(__file__).resolve().parent / "guest"
GUEST_PYTHON = PROJECT / ".venv/bin/python"
MODULES_DIR = Path("/usr/lib/uml/modules")
XSTATE_LIBRARY = PROJECT / "build/lab/uml_xstate.so"

TRIES_MAX = 3
BOOT_LIMIT_S = 60.0
SYSTEMD_BOOT_LIMIT_S = 240.0
SYSTEM_DISK_SIZE = 8 << 30  # sparse
POLL_S = 0.02
TICK_S = 1.0
CONSOLE_LINES_SHOWN = 60

Event = dict[str, Any]
T = TypeVar("T")


class LabError(RuntimeError):
    """The lab could not do what it was asked."""


class LabMissingError(LabError):
    """This host lacks something the lab needs; the message names it."""


class GuestFailedError(LabError):
    """The guest's program failed or took too long."""


class GuestAbortedError(LabError):
    """The guest's kernel ended by itself."""


@dataclass(frozen=True)
class Result:
    """What is left of a guest: its program's exit status, its events, its console."""

    status: int
    events: list[Event]
    console: str
    seconds: float

    def event(self, name: str) -> Event:
        """Return the last event called ``name``.

        Raises:
            LabError: there is none.
        """
        found = [event for event in self.events if event["event"] == name]
        if not found:
            raise LabError(f"the guest told no {name!r}\n{_console_tail(self.console)}")
        return found[-1]


def missing() -> list[str]:
    """Return what this host lacks for the lab, each as a phrase with its remedy; empty = ready."""
    lacks = [
        f"{program} (Debian package {package})"
        for program, package in (
            ("linux.uml", "user-mode-linux"), ("lvm", "lvm2"), ("dmsetup", "dmsetup"),
            ("mkfs.xfs", "xfsprogs"), ("mkfs.ext4", "e2fsprogs"), ("modprobe", "kmod"),
            ("udevadm", "udev"), ("tc", "iproute2"),
        )
        if shutil.which(program, path=_PATH) is None
    ]  # fmt: skip
    if not any(MODULES_DIR.glob("*/modules.dep")):
        lacks.append(f"{MODULES_DIR} (Debian package user-mode-linux)")
    if not GUEST_PYTHON.exists():
        lacks.append(f"{GUEST_PYTHON} (make setup)")
    if needs_xstate_library() and not XSTATE_LIBRARY.exists():
        lacks.append(f"{XSTATE_LIBRARY}, which this processor (AMX) needs (make setup)")
    return lacks


def needs_xstate_library() -> bool:
    """Return whether the processor's registers are larger than user-mode Linux knows."""
    return " amx_tile" in Path("/proc/cpuinfo").read_text()


def repeat_aborted(body: Callable[[], T]) -> T:
    """Return ``body()``, repeated when a guest's kernel ended by itself.

    ``body`` starts from blank disks each time. Raises GuestAbortedError the third time.
    """
    for _ in range(TRIES_MAX - 1):
        with contextlib.suppress(GuestAbortedError):
            return body()
    return body()


class Machine:
    """Disks and a window to the host, for one guest at a time; several machines live side by side.

    Args:
        folder: an empty or new directory; its path has no spaces (it is on a kernel command line).
        disk_sizes: bytes of /dev/ubda, /dev/ubdb, ...; images are sparse and start blank.
        memory_mib: the guest's memory; used from the host as it is touched.
        systemd: boot a systemd with udevd before the program (init-systemd.sh), not just a shell;
            what it writes is kept on one more disk, from boot to boot.
        echo: called with every line of the console, for people who watch.
    """

    def __init__(
        self,
        folder: Path,
        disk_sizes: Sequence[int] = (),
        *,
        memory_mib: int = 1024,
        systemd: bool = False,
        echo: Callable[[str], None] | None = None,
    ) -> None:
        if len(disk_sizes) + systemd > 8 or any(c.isspace() for c in str(folder)):
            raise ValueError("a machine has at most 8 disks and a folder without spaces")
        lacks = missing()
        if lacks:
            raise LabMissingError("the lab needs " + ", ".join(lacks))
        self.folder = folder.resolve()
        self.out = self.folder / "out"
        self.disk_sizes = [*disk_sizes, *([SYSTEM_DISK_SIZE] if systemd else [])]
        self.disks = [self.folder / f"disk{index}.img" for index in range(len(self.disk_sizes))]
        self.systemd = systemd
        self.memory_mib = memory_mib
        self.echo = echo
        self._guest: Guest | None = None
        self.out.mkdir(parents=True)
        init = "init-systemd.sh" if systemd else "init.sh"
        shutil.copy(GUEST_DIR / init, self.folder / "init")
        self.blank()
        _compile_project()

    def blank(self) -> None:
        """Make every disk empty again."""
        for disk, size in zip(self.disks, self.disk_sizes, strict=True):
            with disk.open("wb") as image:
                image.truncate(size)

    def close(self) -> None:
        """End the guest that may still run."""
        if self._guest is not None:
            self._guest.kill()

    def boot(self, script: Path, *args: str, limit_s: float = 300.0) -> Guest:
        """Start a guest that runs ``script`` with ``args``; return once its program starts.

        ``limit_s`` bounds the whole life of the guest, also if this process dies.

        Raises:
            GuestAbortedError: it did not come up, three times.
        """
        self.close()
        for attempt in range(TRIES_MAX):
            guest = self._guest = Guest(self, [str(GUEST_PYTHON), str(script), *args], limit_s)
            try:
                limit_boot_s = SYSTEMD_BOOT_LIMIT_S if self.systemd else BOOT_LIMIT_S
                guest.wait_for("up", limit_s=min(limit_boot_s, limit_s))
            except (GuestAbortedError, GuestFailedError) as error:
                self.close()
                if attempt == TRIES_MAX - 1:
                    raise GuestAbortedError(str(error)) from None
            else:
                guest.keep_awake()
                return guest
        raise AssertionError("unreachable")

    def run(self, script: Path, *args: str, limit_s: float = 300.0, blank: bool = False) -> Result:
        """Boot, wait until the program ends, return its result.

        With ``blank`` the disks are emptied first, and a guest that aborts is repeated.

        Raises:
            GuestFailedError: the exit status is not 0, or the limit passed.
            GuestAbortedError: the kernel ended by itself.
        """

        def once() -> Result:
            if blank:
                self.blank()
            guest = self.boot(script, *args, limit_s=limit_s)
            try:
                return guest.wait(limit_s=limit_s)
            finally:
                guest.kill()

        return repeat_aborted(once) if blank else once()


class Guest:
    """One boot of a machine. Made by ``Machine.boot``; ``kill`` is always allowed."""

    def __init__(self, machine: Machine, command: list[str], limit_s: float) -> None:
        self.machine = machine
        self.started = time.monotonic()
        self._events_file = machine.out / "events"
        self._events_file.write_bytes(b"")
        (machine.folder / "command").write_bytes(b"".join(a.encode() + b"\0" for a in command))
        self._lines: list[str] = []
        self._killed = False
        with on_one_processor() as self._processor:
            self._process = subprocess.Popen(
                self._argv(int(limit_s) + 1),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=machine.folder,
                env=_host_environment(machine),
            )
        self._reader = threading.Thread(target=self._read_console, daemon=True)
        self._reader.start()

    def _argv(self, limit_s: int) -> list[str]:
        machine = self.machine
        return [
            "linux.uml",
            f"mem={machine.memory_mib}M",
            *("root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "quiet"),
            *("con=null", "con0=null,fd:1", "ssl=null", f"uml_dir={machine.folder}/"),
            *(f"ubd{index}d={disk}" for index, disk in enumerate(machine.disks)),
            f"init={machine.folder}/init",
            f"LAB={machine.folder}",
            f"LAB_PROJECT={PROJECT}",
            f"LAB_LIMIT_S={limit_s}",
            *([f"LAB_SYSTEM_DISK=/dev/ubd{'abcdefgh'[len(machine.disks) - 1]}"]
              if machine.systemd else []),
        ]  # fmt: skip

    def _read_console(self) -> None:
        assert self._process.stdout is not None
        for raw in self._process.stdout:
            line = raw.decode(errors="replace").rstrip("\r\n")
            self._lines.append(line)
            if self.machine.echo is not None:
                self.machine.echo(line)

    @property
    def console(self) -> str:
        """Everything the guest has printed so far."""
        return "\n".join(self._lines)

    def keep_awake(self) -> None:
        """From now on send the guest a timer tick of its own every second.

        A guest that idles now and then misses the tick it sleeps for, and sleeps on until
        something else wakes it. One more tick than it asked for does no harm.
        """
        threading.Thread(target=self._tick, daemon=True).start()

    def _tick(self) -> None:
        while self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGALRM)
            time.sleep(TICK_S)

    def events(self) -> list[Event]:
        """Return the events so far, in order; a line that is still being written is left out."""
        whole = self._events_file.read_bytes().rpartition(b"\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    def wait_for(self, name: str, *, limit_s: float = 60.0) -> Event:
        """Return the first event called ``name``, waiting for it.

        Raises:
            GuestFailedError: the program ended without it, or the limit passed.
            GuestAbortedError: the kernel ended by itself.
        """
        deadline = time.monotonic() + limit_s
        while True:
            ended = self._process.poll() is not None
            events = self.events()
            for event in events:
                if event["event"] == name:
                    return event
            if any(event["event"] == "exit" for event in events):
                self.kill()
                raise GuestFailedError(self._story(f"the program ended before {name!r}"))
            if ended:
                kind = GuestFailedError if self._killed else GuestAbortedError
                raise kind(self._story(f"the guest ended before {name!r}"))
            if time.monotonic() > deadline:
                self.kill()
                raise GuestFailedError(self._story(f"no {name!r} within {limit_s:.0f} s"))
            time.sleep(POLL_S)

    def wait(self, *, limit_s: float = 300.0) -> Result:
        """Wait until the program ends, end the guest, return its result.

        Raises:
            GuestFailedError: the exit status is not 0, or the limit passed.
            GuestAbortedError: the kernel ended by itself.
        """
        status = int(self.wait_for("exit", limit_s=limit_s)["status"])
        self.kill()
        if status != 0:
            raise GuestFailedError(self._story(f"the program ended with status {status}"))
        return Result(status, self.events(), self.console, time.monotonic() - self.started)

    def wait_for_power_off(self, *, limit_s: float = 120.0) -> float:
        """Wait until the guest has ended by itself, as a shutdown ends; return the seconds.

        Raises:
            GuestFailedError: it did not within the limit.
        """
        begun = time.monotonic()
        try:
            self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise GuestFailedError(self._story(f"not off within {limit_s:.0f} s")) from None
        self.kill()
        return time.monotonic() - begun

    def kill(self) -> None:
        """End the guest at once, as a power cut does; return when nothing of it is left."""
        assert self._process.stdout is not None
        if self._process.stdout.closed:
            return
        self._killed = self._process.poll() is None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        # Every process of the guest holds the console's pipe: its end is the end of the last one.
        self._reader.join(timeout=10)
        self._process.stdout.close()
        self._processor.close()

    def _story(self, message: str) -> str:
        seconds = time.monotonic() - self.started
        told = f"its last event: {events[-1]}" if (events := self.events()) else "it told nothing"
        return f"{message} ({seconds:.1f} s after the start; {told})\n{_console_tail(self.console)}"


_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def _host_environment(machine: Machine) -> dict[str, str]:
    environment = {"PATH": _PATH, "HOME": str(machine.folder), "TMPDIR": str(_memory_dir(machine))}
    if needs_xstate_library():
        # Bound at once: a guest process's first stack is one page, too small for late binding.
        environment |= {"LD_PRELOAD": str(XSTATE_LIBRARY), "LD_BIND_NOW": "1"}
    return environment


def _memory_dir(machine: Machine) -> Path:
    """Return where the guest's memory fits, an executable file; /dev/shm may be tiny."""
    shm = Path("/dev/shm")
    with contextlib.suppress(OSError):
        facts = os.statvfs(shm)
        room = facts.f_bavail * facts.f_frsize >= machine.memory_mib << 20
        if room and not facts.f_flag & os.ST_NOEXEC and os.access(shm, os.W_OK):
            return shm
    return machine.folder


def _compile_project() -> None:
    """Compile the project here, once: the guest can not write and compiles ten times slower."""
    for name in ("blocksnapd", "blocksnapctl", "tests"):
        compileall.compile_dir(str(PROJECT / name), quiet=2)


def _console_tail(console: str) -> str:
    lines = console.splitlines()[-CONSOLE_LINES_SHOWN:]
    return "\n".join(["--- the guest's console, its end:", *lines, "---"])


def print_line(line: str) -> None:
    """Print one line of a guest's console: an ``echo`` for people who watch."""
    sys.stderr.write(f"guest| {line}\n")
