"""Device-mapper by ioctl: ask, resume and remove devices without starting a program. Edge.

One call costs less than a millisecond, allocates one small buffer and touches no disk, so it
may be used while an origin is suspended. Standard library only: the guard starts with it.

    struct dm_ioctl    312 bytes at the front of every buffer, input and output
    payload            follows at ``data_start``: target specs, names or device numbers

Source: Linux, include/uapi/linux/dm-ioctl.h, drivers/md/dm-ioctl.c; include/linux/kdev_t.h
(``huge_encode_dev``).
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from typing import NamedTuple

from blocksnapd.errors import DeviceMapperError
from blocksnapd.runtime.owned import OwnedFd

CONTROL = "/dev/mapper/control"
NAME_SIZE_MAX = 127

_HEADER = struct.Struct("=3I I I I i I I I Q 128s 129s 7s")
_SPEC = struct.Struct("=QQiI16s")
_IOCTL = 0xC138FD00  # _IOWR(0xfd, 0, 312 bytes)
_LIST_DEVICES, _REMOVE, _SUSPEND, _STATUS, _CLEAR, _DEPS, _TABLE_STATUS = 2, 4, 6, 7, 10, 11, 12
_LIST_VERSIONS = 13
_READ_ONLY, _IS_SUSPENDED, _WANT_TABLE, _HAS_LIVE, _HAS_INACTIVE = 1, 1 << 1, 1 << 4, 1 << 5, 1 << 6
_BUFFER_FULL, _NO_FLUSH, _WANT_INACTIVE = 1 << 8, 1 << 11, 1 << 12
_BUFFER_SIZE, _BUFFER_SIZE_MAX = 16 * 1024, 4 * 1024 * 1024
_FIELD_DATA_START, _FIELD_TARGETS, _FIELD_OPEN, _FIELD_FLAGS, _FIELD_EVENT = 4, 5, 6, 7, 8
_FIELD_DEV, _FIELD_NAME, _FIELD_UUID = 10, 11, 12


class DeviceInfo(NamedTuple):
    """One mapped device. ``live`` and ``inactive`` say which table slots are filled."""

    name: str
    uuid: str
    major: int
    minor: int
    suspended: bool
    live: bool
    inactive: bool
    read_only: bool
    open_count: int
    event_nr: int

    @property
    def devno(self) -> str:
        """The device number as tables write it, ``"254:3"``."""
        return f"{self.major}:{self.minor}"


class Target(NamedTuple):
    """One line of a table or of its status; ``params`` is the text after the target's name."""

    start_sector: int
    length_sectors: int
    kind: str
    params: str


class Control(OwnedFd):
    """The control node, held open. One thread at a time; every call is short unless noted."""

    def __init__(self, path: str = CONTROL) -> None:
        """Open the control node.

        Raises:
            DeviceMapperError: this kernel or container has no device-mapper, or we lack the rights.
        """
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise _no_control(path, error) from error

    def info(self, name: str) -> DeviceInfo | None:
        """Return what the kernel says of the device ``name``; None if there is none."""
        reply = self._call(_STATUS, name)
        return _device_info(reply) if reply is not None else None

    def status(self, name: str) -> list[Target] | None:
        """Return each target's live status line; None without such a device.

        Without a flush: a snapshot's numbers are those of this moment, nothing waits for I/O.
        """
        reply = self._call(_TABLE_STATUS, name, _NO_FLUSH)
        return _targets(reply) if reply is not None else None

    def table(self, name: str, *, inactive: bool = False) -> list[Target] | None:
        """Return the live (or the inactive) table; empty if that slot is, None without a device."""
        flags = _WANT_TABLE | _NO_FLUSH | (_WANT_INACTIVE if inactive else 0)
        reply = self._call(_TABLE_STATUS, name, flags)
        return _targets(reply) if reply is not None else None

    def deps(self, name: str) -> list[str]:
        """Return the device numbers (``"254:3"``) that the live table of ``name`` rests on."""
        reply = self._call(_DEPS, name)
        if reply is None or not _HEADER.unpack_from(reply)[_FIELD_FLAGS] & _HAS_LIVE:
            return []
        start = _HEADER.unpack_from(reply)[_FIELD_DATA_START]
        (count,) = struct.unpack_from("=I", reply, start)
        numbers = struct.unpack_from(f"={count}Q", reply, start + 8)
        return ["{}:{}".format(*_split_devno(number)) for number in numbers]

    def names(self) -> list[str]:
        """Return the names of all mapped devices."""
        reply = self._call(_LIST_DEVICES, "")
        return _names(reply) if reply is not None else []

    def targets(self) -> list[str]:
        """Return the kinds of target the kernel has loaded: ``linear``, ``snapshot``, ..."""
        reply = self._call(_LIST_VERSIONS, "")
        return _kinds(reply) if reply is not None else []

    def suspend(self, name: str) -> None:
        """Suspend a device: file system frozen, I/O drained. Blocks until then.

        Raises:
            DeviceMapperError: no such device, or the kernel refused.
        """
        self._demand(_SUSPEND, name, _IS_SUSPENDED)

    def resume(self, name: str) -> None:
        """Resume a device; an inactive table becomes the live one first.

        Raises:
            DeviceMapperError: no such device, or the kernel refused the inactive table.
        """
        self._demand(_SUSPEND, name)

    def clear(self, name: str) -> None:
        """Throw away the inactive table of a device; none there is success.

        Raises:
            DeviceMapperError: no such device, or the kernel refused.
        """
        self._demand(_CLEAR, name)

    def remove(self, name: str) -> bool:
        """Remove a device that nobody holds open, and the node that no udevd would remove.

        Returns:
            False if there was none.

        Raises:
            DeviceMapperError: it is in use.
        """
        found = self._call(_REMOVE, name) is not None
        _remove_stale_node(f"/dev/mapper/{name}")
        return found

    def _demand(self, command: int, name: str, flags: int = 0) -> None:
        if self._call(command, name, flags) is None:
            raise DeviceMapperError(f"There is no device-mapper device {name!r}.")

    def _call(self, command: int, name: str, flags: int = 0) -> bytearray | None:
        """Run one ioctl; None means the device does not exist."""
        raw_name = name.encode()
        if len(raw_name) > NAME_SIZE_MAX:
            raise DeviceMapperError(f"{name!r} is longer than {NAME_SIZE_MAX} bytes.")
        size = _BUFFER_SIZE
        while True:
            buffer = bytearray(size)
            _HEADER.pack_into(
                buffer, 0, 4, 0, 0, size, _HEADER.size, 0, 0, flags, 0, 0, 0, raw_name, b"", b""
            )
            try:
                fcntl.ioctl(self._fd, _IOCTL | command, buffer, True)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return None
                raise _refused(command, name, error) from error
            if not _HEADER.unpack_from(buffer)[_FIELD_FLAGS] & _BUFFER_FULL:
                return buffer
            size *= 4
            if size > _BUFFER_SIZE_MAX:
                raise DeviceMapperError(f"The reply about {name!r} is over {_BUFFER_SIZE_MAX} B.")


def _device_info(reply: bytearray) -> DeviceInfo:
    field = _HEADER.unpack_from(reply)
    flags = field[_FIELD_FLAGS]
    major, minor = _split_devno(field[_FIELD_DEV])
    return DeviceInfo(
        name=_text(field[_FIELD_NAME]), uuid=_text(field[_FIELD_UUID]), major=major, minor=minor,
        suspended=bool(flags & _IS_SUSPENDED), live=bool(flags & _HAS_LIVE),
        inactive=bool(flags & _HAS_INACTIVE), read_only=bool(flags & _READ_ONLY),
        open_count=field[_FIELD_OPEN], event_nr=field[_FIELD_EVENT],
    )  # fmt: skip


def _targets(reply: bytearray) -> list[Target]:
    field = _HEADER.unpack_from(reply)
    base = offset = field[_FIELD_DATA_START]
    targets = []
    for _ in range(field[_FIELD_TARGETS]):
        start, length, _error, step, kind = _SPEC.unpack_from(reply, offset)
        text = offset + _SPEC.size
        params = reply[text : reply.index(0, text)].decode(errors="replace")
        targets.append(Target(start, length, _text(kind), params))
        offset = base + step  # counted from the first spec in replies
    return targets


def _names(reply: bytearray) -> list[str]:
    offset = _HEADER.unpack_from(reply)[_FIELD_DATA_START]
    names: list[str] = []
    while True:
        devno, step = struct.unpack_from("=QI", reply, offset)
        if devno == 0:  # an empty list is one entry of zeros
            return names
        text = offset + 12
        names.append(reply[text : reply.index(0, text)].decode(errors="replace"))
        if step == 0:
            return names
        offset += step


def _kinds(reply: bytearray) -> list[str]:
    offset = _HEADER.unpack_from(reply)[_FIELD_DATA_START]
    kinds: list[str] = []
    while True:
        step, *_version = struct.unpack_from("=4I", reply, offset)
        text = offset + 16
        kinds.append(reply[text : reply.index(0, text)].decode(errors="replace"))
        if step == 0:
            return kinds
        offset += step


def _split_devno(number: int) -> tuple[int, int]:
    return (number >> 8) & 0xFFF, (number & 0xFF) | ((number >> 12) & 0xFFF00)


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode(errors="replace")


def _remove_stale_node(path: str) -> None:
    """Unlink the node of a device that is gone; udev's own names are links and udev's business."""
    try:
        if stat.S_ISBLK(os.lstat(path).st_mode):
            os.unlink(path)
    except OSError:
        return  # absent, or /dev is read-only: a stale node harms nobody


def _no_control(path: str, error: OSError) -> DeviceMapperError:
    if error.errno in (errno.EACCES, errno.EPERM):
        return DeviceMapperError(
            f"{path} may not be opened: {error.strerror}.",
            effect="Volumes cannot be snapshotted; nothing was changed.",
            hint="Run blocksnapd as root with CAP_SYS_ADMIN, or use the driver 'scan'.",
        )
    return DeviceMapperError(
        f"There is no device-mapper here: {path}: {error.strerror}.",
        effect="Drivers that take snapshots cannot work; nothing was changed.",
        hint="Load it (modprobe dm_mod dm_snapshot) on the host itself, a container may not have"
        " it; or use the driver 'scan', which needs none.",
    )


def _refused(command: int, name: str, error: OSError) -> DeviceMapperError:
    verb = {
        _LIST_DEVICES: "listing devices", _LIST_VERSIONS: "listing targets",
        _REMOVE: "removing", _SUSPEND: "suspending or resuming",
        _STATUS: "asking for", _CLEAR: "clearing the table of", _DEPS: "asking for",
        _TABLE_STATUS: "asking for the table of",
    }[command]  # fmt: skip
    hint = ""
    if error.errno == errno.EBUSY:
        hint = "Something holds the device open; find it with 'lsof' or 'fuser -v'."
    if error.errno in (errno.EACCES, errno.EPERM):
        hint = "Run blocksnapd as root with CAP_SYS_ADMIN."
    return DeviceMapperError(f"Device-mapper refused {verb} {name!r}: {error.strerror}.", hint=hint)
