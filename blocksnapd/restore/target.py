"""Where a restore writes to: what is there, whether it may be overwritten, and opening it. Edge.

``examine`` looks and touches nothing; it refuses whatever could hurt somebody. ``open_target``
opens what was examined. Neither is ever content with a half: an image comes under its final name,
or a device gets its first bytes, after everything else is on the disk (see the two targets).
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from blocksnapd.errors import HostError, NotAllowedError, RefusedError
from blocksnapd.restore import device_use, signatures
from blocksnapd.restore.device_target import DeviceTarget
from blocksnapd.restore.file_target import FileTarget, partial_size
from blocksnapd.units import format_size

if TYPE_CHECKING:
    from collections.abc import Iterable

Kind: TypeAlias = Literal["file", "device"]

_BLKROGET = 0x125E  # ioctl: is the block device read-only?
_UNTOUCHED = "Nothing was written."


@dataclass(frozen=True, slots=True)
class TargetPlan:
    """A target that may be written to.

    ``path`` is a file's real one, links followed; a device keeps the name it was given (nobody
    knows /dev/dm-7). ``size`` is a device's bytes, 0 for a file.
    ``replaces``: what is there now goes. ``is_new``: made for this restore, so nobody's content
    is on it. ``notes`` are sentences the operator should read.
    """

    path: str
    kind: Kind
    size: int
    replaces: bool
    notes: tuple[str, ...] = ()
    is_new: bool = False


def examine(
    path: str,
    *,
    image_size: int,
    data_size: int,
    overwrite: bool = False,
    keep_out: Iterable[str] = (),
    is_new: bool = False,
) -> TargetPlan:
    """Return what restoring to ``path`` would do. Blocking; changes nothing.

    Args:
        path: A file that does not exist yet, an existing file, or a block device.
        image_size: Bytes of the image.
        data_size: Bytes of the image that are not zero, what a sparse file takes.
        overwrite: Whether an existing file, or what a device is seen to hold, may be replaced.
        keep_out: Directories that must not be written to: the repository's.
        is_new: Whether ``path`` is a device that was made for this restore.

    Raises:
        RefusedError: a guard said no; the message says why and what to do.
        NotAllowedError: the rights to write there are missing.
        HostError: looking at it failed.
    """
    real = os.path.realpath(path)
    try:
        mode = os.stat(real).st_mode if os.path.lexists(real) else None
        if mode is not None and stat.S_ISBLK(mode):
            return _examine_device(os.path.abspath(path), image_size, overwrite, is_new=is_new)
        _refuse_places(real, keep_out)
        if mode is not None:
            _refuse_existing(real, mode, overwrite)
        _refuse_full(real, data_size)
    except OSError as error:
        raise _failed(real, error) from error
    return TargetPlan(real, "file", 0, replaces=mode is not None)


def open_target(plan: TargetPlan, *, keeps: bool = False) -> FileTarget | DeviceTarget:
    """Open what ``examine`` returned, for one restore; ``keeps`` what a killed one left.

    Raises:
        RefusedError, BusyError: somebody else uses it since.
        NotAllowedError, HostError: it cannot be opened.
    """
    try:
        if plan.kind == "device":
            return DeviceTarget(plan.path, is_new=plan.is_new)
        return FileTarget(plan.path, replaces=plan.replaces, keeps=keeps)
    except OSError as error:
        if plan.kind == "device" and error.errno == errno.EBUSY:
            raise _in_use(plan.path) from error
        raise _failed(plan.path, error) from error


def _examine_device(
    path: str, image_size: int, overwrite: bool, *, is_new: bool
) -> TargetPlan:  # fmt: skip
    if device_use.users(path):
        raise _in_use(path)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise _in_use(path) from error
        raise
    try:
        size = os.lseek(fd, 0, os.SEEK_END)
        _refuse_device(path, fd, size, image_size)
        found = signatures.find(lambda offset, length: os.pread(fd, length, offset), size)
    finally:
        os.close(fd)
    if is_new:
        return TargetPlan(path, "device", size, replaces=False, is_new=True)
    _refuse_content(path, found, overwrite)
    notes = []
    if found is not None:
        notes.append(f"{path} holds {found.name}, which is overwritten.")
    if size > image_size:
        rest = format_size(size - image_size)
        notes.append(f"{path} is larger than the image; its last {rest} stay as they are.")
    return TargetPlan(path, "device", size, found is not None, tuple(notes))


def _refuse_device(path: str, fd: int, size: int, image_size: int) -> None:
    if size < image_size:
        raise RefusedError(
            f"{path} has {size} bytes, the image {image_size}: it does not fit.",
            effect=_UNTOUCHED,
            hint=f"Give a device of at least {format_size(image_size)}, or restore to a file.",
        )
    if struct.unpack("i", fcntl.ioctl(fd, _BLKROGET, bytes(4)))[0]:
        raise RefusedError(
            f"{path} is read-only.",
            effect=_UNTOUCHED,
            hint="Choose another target, or make it writable: lvchange -prw, blockdev --setrw.",
        )


def _refuse_content(path: str, found: signatures.Signature | None, overwrite: bool) -> None:
    if found is None:
        return
    if found.is_member:
        raise RefusedError(
            f"{path} is {found.name}.",
            effect=f"Overwriting it would take other volumes with it. {_UNTOUCHED}",
            hint=f"If nothing needs it any more: take it out of its group, then wipefs -a {path}.",
        )
    if not overwrite:
        raise RefusedError(
            f"{path} holds {found.name}.",
            effect=f"A restore would overwrite it. {_UNTOUCHED}",
            hint="Choose another target, or ask for overwriting.",
        )


def _refuse_places(path: str, keep_out: Iterable[str]) -> None:
    parent = os.path.dirname(path)
    for place in map(os.path.realpath, keep_out):
        if os.path.commonpath([place, path]) == place:
            raise RefusedError(
                f"{path} lies inside the repository {place}.",
                effect=f"Only blocksnapd puts files there. {_UNTOUCHED}",
                hint="Choose a path outside of it.",
            )
    if not os.path.isdir(parent):
        raise RefusedError(
            f"The directory {parent} does not exist.",
            effect=_UNTOUCHED,
            hint="Create it, mount what belongs there, or correct the path.",
        )
    if path.startswith("/dev/") and os.stat(parent).st_dev == os.stat("/dev").st_dev:
        raise RefusedError(
            f"There is no block device {path}.",
            effect=f"A file under /dev would be kept in memory and lost. {_UNTOUCHED}",
            hint="Correct the name of the device (see lsblk), or name a file elsewhere. A logical "
            "volume that does not exist yet is made with: --to VG/LV.",
        )


def _refuse_existing(path: str, mode: int, overwrite: bool) -> None:
    if not stat.S_ISREG(mode):
        raise RefusedError(
            f"{path} is neither a file nor a block device.",
            effect=_UNTOUCHED,
            hint="Name a file to be created, or a block device.",
        )
    if device_use.users(path):
        raise _in_use(path)
    if not overwrite:
        raise RefusedError(
            f"{path} exists.",
            effect=_UNTOUCHED,
            hint="Name a file that does not exist yet, or ask for overwriting.",
        )


def _refuse_full(path: str, data_size: int) -> None:
    parent = os.path.dirname(path)
    if not os.access(parent, os.W_OK | os.X_OK):
        raise NotAllowedError(
            f"No right to create files in {parent}.",
            effect=_UNTOUCHED,
            hint="Run as a user who may, or choose another directory.",
        )
    facts = os.statvfs(parent)
    free = facts.f_bavail * facts.f_frsize + partial_size(path)  # it is gone on with, or goes
    if free < data_size:
        raise RefusedError(
            f"{parent} has {format_size(free)} free, the image needs {format_size(data_size)}.",
            effect=_UNTOUCHED,
            hint="Make room (an old file that is to be replaced counts until the end), or restore "
            "elsewhere.",
        )


def _in_use(path: str) -> RefusedError:
    seen = device_use.users(path) or ["held by another program or by the kernel"]
    return RefusedError(
        f"{path} is in use: {', '.join(dict.fromkeys(seen))}.",
        effect=f"Writing to it now would destroy what is being worked with. {_UNTOUCHED}",
        hint="Stop its user first (umount, swapoff, lvchange -an, losetup -d), or restore to a "
        "new file or volume.",
    )


def _failed(path: str, error: OSError) -> HostError | NotAllowedError:
    message = f"The target {path} cannot be opened: {error.strerror}."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        hint = "Run as root, or as a user who may write there."
        return NotAllowedError(message, effect=_UNTOUCHED, hint=hint)
    return HostError(message, effect=_UNTOUCHED, hint="Check the path and the kernel log.")
