"""The devices around one origin, and the way out when a command died between them. Edge.

    VG-LV            origin       snapshot-origin over -real (or linear, without snapshots)
    VG-LV-real       real         the volume's own extents
    VG-SNAP          snapshot     names -real and its -cow
    VG-SNAP-cow      COW device

A command that takes or removes a snapshot suspends the origin first and resumes it last. When
it dies in between, the way out is *forward and bottom-up*: resume ``-real`` and every COW
device, then the snapshots, then the origin. ``-real`` may have no live table before that, so
that an origin resumed too early would answer every request with an error.

Only ioctls, no disk: the guard runs this while the origin is suspended. Standard library only.

Source: Linux, Documentation/admin-guide/device-mapper/snapshot.rst; drivers/md/dm-snap.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from blocksnapd.errors import DeviceMapperError

if TYPE_CHECKING:
    from blocksnapd.cycle.dm_ioctl import Control, DeviceInfo, Target

SNAPSHOT_KINDS = ("snapshot", "snapshot-merge")


class Stack(NamedTuple):
    """What exists around one origin; every list may be empty while a command is half-way."""

    origin: DeviceInfo | None
    real: DeviceInfo | None
    cows: list[DeviceInfo]
    snapshots: list[DeviceInfo]

    def bottom_up(self) -> list[DeviceInfo]:
        """Return all devices in the order in which they may be resumed."""
        first = [self.real] if self.real else []
        last = [self.origin] if self.origin else []
        return [*first, *self.cows, *self.snapshots, *last]

    @property
    def suspended(self) -> bool:
        """Whether any of them holds its I/O back."""
        return any(device.suspended for device in self.bottom_up())


def find_stack(control: Control, origin: str, names: tuple[str, ...] = ()) -> Stack:
    """Find the devices around ``origin`` by their tables, live and inactive.

    Args:
        control: the open control node.
        origin: device-mapper name of the origin, ``VG-LV``.
        names: further snapshots that belong to it even when they have no table (any more).

    Raises:
        DeviceMapperError: the kernel refused to answer.
    """
    real = control.info(f"{origin}-real")
    snapshots: dict[str, None] = dict.fromkeys(names)
    cow_numbers: set[str] = set()
    every = control.names()
    if real is not None:
        for name in every:
            for cow in _snapshots_of(control, name, real.devno):
                snapshots[name] = None
                cow_numbers.add(cow)
    cows = {f"{name}-cow": control.info(f"{name}-cow") for name in snapshots}
    if cow_numbers - {device.devno for device in cows.values() if device}:
        # A COW device under a name of its own: not lvm2's way, but resumed all the same.
        for name in every:
            device = control.info(name)
            if device is not None and device.devno in cow_numbers:
                cows[name] = device
    found = [control.info(name) for name in snapshots]
    return Stack(
        origin=control.info(origin), real=real,
        cows=[device for device in cows.values() if device],
        snapshots=[device for device in found if device],
    )  # fmt: skip


def resume_forward(control: Control, origin: str, names: tuple[str, ...] = ()) -> list[str]:
    """Make the origin writable again after a command died; return what was resumed.

    Does nothing when nothing is suspended. The origin itself is resumed even when a device
    below refused, since a hung origin hangs every reader and writer of it.

    Raises:
        DeviceMapperError: the origin is still suspended.
    """
    stack = find_stack(control, origin, names)
    if not stack.suspended:
        return []
    resumed: list[str] = []
    refusal: DeviceMapperError | None = None
    for device in stack.bottom_up():
        if not (device.suspended or device.inactive):
            continue
        try:
            control.resume(device.name)
            resumed.append(device.name)
        except DeviceMapperError as error:
            refusal = error
    after = control.info(origin)
    if after is not None and after.suspended:
        raise DeviceMapperError(
            f"The origin {origin!r} is still suspended: {refusal or 'the kernel does not say why'}",
            effect="Every reader and writer of the volume waits.",
            hint=f"Run 'dmsetup resume' by hand: {' '.join(d.name for d in stack.bottom_up())}.",
        )
    return resumed


def snapshot_numbers(status: list[Target] | None) -> tuple[int, int] | None:
    """Return (used, size) in bytes from a snapshot's status; None unless it is whole and live.

    A snapshot that was given up says ``Invalid``, ``Overflow`` or ``Merge failed`` instead.
    """
    if not status or status[0].kind not in SNAPSHOT_KINDS:
        return None
    numbers = status[0].params.split(" ")[0].split("/")
    if len(numbers) != 2 or not all(number.isascii() and number.isdigit() for number in numbers):
        return None
    return int(numbers[0]) * 512, int(numbers[1]) * 512


def is_given_up(status: list[Target] | None) -> bool:
    """Return whether the kernel says of a snapshot that it tracks no more.

    Not so while lvremove is at work: that makes it a plain device before it takes it away.
    """
    if not status or status[0].kind not in SNAPSHOT_KINDS:
        return False
    return snapshot_numbers(status) is None


def _snapshots_of(control: Control, name: str, real_devno: str) -> list[str]:
    """Return the COW device numbers that ``name`` uses as a snapshot of ``real_devno``."""
    tables = [control.table(name) or [], control.table(name, inactive=True) or []]
    cows = []
    for target in (target for table in tables for target in table):
        words = target.params.split(" ")
        if target.kind in SNAPSHOT_KINDS and len(words) > 1 and words[0] == real_devno:
            cows.append(words[1])
    return cows
