"""Puts files into directories of the host, by open directories only. Edge.

Names come from an image that somebody else wrote. So every step goes from one open directory to a
name in it and follows no symbolic link; what exists is not touched unless it may be replaced; and a
file has its name only when it is whole.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from typing import TYPE_CHECKING, Final

from blocksnapd.errors import HostError
from blocksnapd.runtime import durable

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocksnapd.files.nodes import Node

    Note = Callable[[str], None]

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FATAL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE}
_SPECIAL_BITS: Final = stat.S_ISUID | stat.S_ISGID


class Writer:
    """Writes below one directory.

    Args:
        base: an open directory; the caller closes it.
        is_root: owners and every attribute can be kept.
        overwrite: existing files are replaced, existing directories are filled further.
    """

    def __init__(self, base: int, *, is_root: bool, overwrite: bool) -> None:
        self.base, self._is_root, self._overwrite = base, is_root, overwrite

    def directory(self, parent: int, name: bytes) -> int:
        """Make a directory that only we may enter for now; return it, open.

        Raises:
            OSError: it cannot be made; FileExistsError: something of that name is there.
        """
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            if not self._overwrite:
                raise
        return os.open(name, _DIRECTORY, dir_fd=parent)

    def file(
        self, parent: int, name: bytes, node: Node, fill: Callable[[int], None],
        xattrs: Callable[[], list[tuple[bytes, bytes]]], note: Note,
    ) -> None:  # fmt: skip
        """Make a file, let ``fill`` write into it, give it its attributes and then its name.

        Raises:
            OSError: it cannot be made. Whatever ``fill`` and ``xattrs`` raise; nothing is left.
        """
        temp = _temp_name()
        fd = os.open(temp, _NEW, 0o600, dir_fd=parent)
        try:
            try:
                fill(fd)
                self.attributes(fd, node, xattrs, note)
            finally:
                os.close(fd)
            self._publish(parent, temp, name)
        except BaseException:
            _unlink(parent, temp)
            raise

    def link(self, parent: int, name: bytes, node: Node, target: bytes, note: Note) -> None:
        """Make a symbolic link; raises OSError."""
        temp = _temp_name()
        os.symlink(target, temp, dir_fd=parent)
        try:
            if self._is_root:
                try:
                    os.chown(temp, node.uid, node.gid, dir_fd=parent, follow_symlinks=False)
                except OSError as error:
                    note(f"owner not kept: {_said(error)}")
            os.utime(temp, ns=(node.atime_ns, node.mtime_ns), dir_fd=parent, follow_symlinks=False)
            self._publish(parent, temp, name)
        except BaseException:
            _unlink(parent, temp)
            raise

    def hard_link(self, first: tuple[bytes, ...], parent: int, name: bytes) -> None:
        """Give the file at ``first``, names from the base on, another name; raises OSError."""
        temp, directory = _temp_name(), os.dup(self.base)
        try:
            for step in first[:-1]:
                inner = os.open(step, _DIRECTORY, dir_fd=directory)
                os.close(directory)
                directory = inner
            durable.link_in(directory, first[-1], parent, temp)
        finally:
            os.close(directory)
        try:
            self._publish(parent, temp, name)
        finally:
            _unlink(parent, temp)  # where both are names of one file, a rename does nothing

    def _publish(self, parent: int, temp: bytes, name: bytes) -> None:
        """Give ``temp`` its name; what may be replaced are files and symbolic links only."""
        if self._overwrite:
            with contextlib.suppress(FileNotFoundError):
                kind = stat.S_IFMT(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
                if kind not in (stat.S_IFREG, stat.S_IFLNK):
                    raise FileExistsError(errno.EEXIST, "something that is no file is there")
        durable.publish_in(parent, temp, name, replaces=self._overwrite)

    def attributes(
        self, fd: int, node: Node, xattrs: Callable[[], list[tuple[bytes, bytes]]], note: Note
    ) -> None:
        """Give an open file or directory what the node says; what can't be kept is noted.

        In this order: a change of owner clears rights and capabilities, an access list changes
        the mode, and any of them changes times.
        """
        mode = stat.S_IMODE(node.mode)
        if not self._owner(fd, node, note) and mode & _SPECIAL_BITS:
            mode &= ~_SPECIAL_BITS
            note("set-user-id and set-group-id not kept: they are of another owner")
        try:
            os.fchmod(fd, mode)
        except OSError as error:
            note(f"mode not kept: {_said(error)}")
        for name, value in xattrs():
            self._xattr(fd, name, value, note)
        try:
            os.utime(fd, ns=(node.atime_ns, node.mtime_ns))
        except (OverflowError, OSError) as error:
            note(f"times not kept: {error}")

    def _owner(self, fd: int, node: Node, note: Note) -> bool:
        """Return whether it has its owner now."""
        if self._is_root:
            try:
                os.fchown(fd, node.uid, node.gid)
            except OSError as error:
                note(f"owner not kept: {_said(error)}")
                return False
            return True
        found = os.fstat(fd)
        if (found.st_uid, found.st_gid) == (node.uid, node.gid):
            return True
        note("owner not kept: only root can give files away")
        return False

    def _xattr(self, fd: int, name: bytes, value: bytes, note: Note) -> None:
        try:
            os.setxattr(fd, name, value)
        except OSError as error:
            kind = name.split(b".")[0].decode(errors="replace")[:20]
            note(f"attribute {kind}.… not kept: {_said(error)}")


def write_all(fd: int, offset: int, data: bytes) -> None:
    """Write all of ``data`` at ``offset``; raises OSError."""
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, offset)
        view, offset = view[done:], offset + done


def or_fatal(error: OSError, path: str) -> OSError:
    """Return ``error`` if it is of one file only.

    Raises:
        HostError: nothing more can be written.
    """
    if error.errno not in _FATAL:
        return error
    raise HostError(
        f"writing {path}: {_said(error)}",
        effect="What was copied before stays; the file that was being copied is not there.",
        hint="Make room, or copy to another disk; go on there with --overwrite.",
    ) from error


def _said(error: OSError) -> str:
    return error.strerror or str(error)


def _temp_name() -> bytes:
    return f"{durable.TEMP_PREFIX}{secrets.token_hex(8)}".encode()


def _unlink(parent: int, name: bytes) -> None:
    try:
        os.unlink(name, dir_fd=parent)
    except OSError:
        return
