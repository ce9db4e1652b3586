"""Copies files and trees out of an image; tells what it could not keep. Edge.

Hostile images are met with limits: nothing is written outside the place named, directories that
contain themselves are entered once, holes stay holes however large, and the sum of what is written
is bounded by the size of the file system.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from blocksnapd.errors import (
    CancelledRunError,
    ChecksumError,
    FormatError,
    NotFoundError,
    RefusedError,
    UsageError,
)
from blocksnapd.files.nodes import TYPES
from blocksnapd.files.writing import Writer, or_fatal, write_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blocksnapd.files.nodes import Entry, FileSystem, Node

DEPTH_MAX: Final = 512  # directories that are open at once
PIECE_SIZE: Final = 1 << 20
SHARE_MAX: Final = 16  # how often the size of the file system may be written
HARD_LINKS_MAX: Final = 500_000
NOTES_MAX: Final = 100
_WRITTEN: Final = "What was copied before stays."


@dataclass(slots=True)
class Report:
    """What became of a copy.

    Attributes:
        files: how many, hard links not counted.
        directories: how many.
        links: symbolic ones.
        data: bytes written, without holes.
        notes: reason → how often, and for which path first.
        damaged: paths that are left out because they can't be read; at most ``NOTES_MAX``.
        damaged_count: how many those are.
        path: what is read now.
    """

    files: int = 0
    directories: int = 0
    links: int = 0
    data: int = 0
    notes: dict[str, tuple[int, str]] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)
    damaged_count: int = 0
    path: str = ""

    def note(self, reason: str) -> None:
        """Count something that was not kept of ``path``."""
        if reason not in self.notes and len(self.notes) >= NOTES_MAX:
            reason = "other things were not kept"
        count, first = self.notes.get(reason, (0, self.path))
        self.notes[reason] = (count + 1, first)

    def is_damaged(self, reason: str) -> None:
        """Count a path that is left out."""
        self.damaged_count += 1
        if len(self.damaged) < NOTES_MAX:
            self.damaged.append(f"{self.path}: {reason}")

    def sentences(self) -> list[str]:
        """Return what was not kept."""
        return [
            f"{reason} ({first}{f' and {count - 1} more' if count > 1 else ''})"
            for reason, (count, first) in self.notes.items()
        ]


@dataclass(slots=True)
class _Level:
    """A directory that is being copied."""

    node: Node
    fd: int
    steps: tuple[bytes, ...]
    entries: Iterator[Entry]


class Copying:
    """One copy. Blocking.

    Args:
        files: where from.
        progress: called often, with what was done so far.
        cancelled: whether to end.
        overwrite: replace what exists.
    """

    def __init__(
        self, files: FileSystem, *, progress: Callable[[Report], None],
        cancelled: Callable[[], bool], overwrite: bool,
    ) -> None:  # fmt: skip
        self._files, self._progress, self._cancelled = files, progress, cancelled
        self._overwrite = overwrite
        self.report = Report()
        self._seen: set[int] = set()
        self._first_names: dict[int, tuple[bytes, ...]] = {}

    def copy(self, node: Node, name: bytes, to: str, *, recursive: bool) -> str:
        """Copy ``node``, called ``name``, to ``to``, or into it if that is a directory.

        Returns:
            Where it is now.

        Raises:
            UsageError, RefusedError, NotFoundError: nothing was written.
            HostError: nothing more can be written. CancelledRunError: it was cancelled.
            ChecksumError, FormatError: what was asked for cannot be read.
        """
        if node.is_directory and not recursive:
            raise UsageError(
                "this is a directory", effect="Nothing was written.",
                hint="Copy it with everything in it: cp -r",
            )  # fmt: skip
        if node.type not in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
            raise UsageError(f"this is a {TYPES[node.type]}", effect="Nothing was written.")
        into, name = _place(to, name)
        try:
            base = os.open(into, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise NotFoundError(
                f"{into}: {error.strerror}", effect="Nothing was written.",
                hint="Name a directory that exists, or a new name in one.",
            ) from error  # fmt: skip
        try:
            return self._into(base, into, node, name)
        finally:
            os.close(base)

    def _into(self, base: int, into: str, node: Node, name: bytes) -> str:
        self._writer = Writer(base, is_root=os.geteuid() == 0, overwrite=self._overwrite)
        where = os.path.join(into, os.fsdecode(name))
        self._check_free(base, name, where)
        self.report.path = where
        if name == b"":  # the root of the image, into a directory that exists
            self._tree(node, os.dup(base), ())
        elif node.is_directory:
            self._tree(node, self._made(base, name, where), (name,))
        else:
            self._one(base, node, (name,), is_all=True)
        return where

    def _check_free(self, base: int, name: bytes, where: str) -> None:
        if self._overwrite:
            return
        if name:
            try:
                os.stat(name, dir_fd=base, follow_symlinks=False)
            except FileNotFoundError:
                return
        elif not os.listdir(base):
            return
        raise RefusedError(
            f"{where} exists" if name else f"{where} is not empty",
            effect="It was not touched.",
            hint="Name another place, or say --overwrite to replace files of the same names.",
        )

    def _made(self, base: int, name: bytes, where: str) -> int:
        try:
            return self._writer.directory(base, name)
        except OSError as error:
            raise RefusedError(
                f"{where} cannot be made: {or_fatal(error, where).strerror}",
                effect="Nothing was written.",
            ) from error

    def _tree(self, node: Node, fd: int, steps: tuple[bytes, ...]) -> None:
        self._seen.add(node.number)
        levels = [_Level(node, fd, steps, self._files.entries(node))]
        try:
            while levels:
                level = levels[-1]
                entry = self._next(level)
                if entry is None:
                    self._end(level)
                    levels.pop()
                    os.close(level.fd)
                    continue
                inner = self._entry(level, entry, len(levels))
                if inner is not None:
                    levels.append(inner)
        finally:
            for level in levels:
                os.close(level.fd)

    def _next(self, level: _Level) -> Entry | None:
        try:
            return next(level.entries, None)
        except FormatError as error:
            self.report.path = _shown(level.steps)
            self.report.is_damaged(f"the rest of the directory is left out: {error.message}")
            return None

    def _end(self, level: _Level) -> None:
        self.report.path = _shown(level.steps)
        self.report.directories += 1
        node = level.node
        try:
            self._writer.attributes(level.fd, node, lambda: self._xattrs(node), self.report.note)
        except OSError as error:
            self.report.note(f"attributes not kept: {or_fatal(error, self.report.path).strerror}")

    def _entry(self, level: _Level, entry: Entry, depth: int) -> _Level | None:
        steps = (*level.steps, entry.name)
        self.report.path = _shown(steps)
        self._check_going()
        try:
            node = self._files.node(entry.number)
        except FormatError as error:
            self.report.is_damaged(error.message)
            return None
        if not node.is_directory:
            self._one(level.fd, node, steps, is_all=False)
            return None
        if node.number in self._seen:
            self.report.is_damaged("a directory that is in two places is copied once")
            return None
        if depth >= DEPTH_MAX:
            self.report.note(f"left out: more than {DEPTH_MAX} directories deep")
            return None
        try:
            fd = self._writer.directory(level.fd, entry.name)
        except OSError as error:
            self.report.note(f"left out: {or_fatal(error, self.report.path).strerror}")
            return None
        self._seen.add(node.number)
        return _Level(node, fd, steps, self._files.entries(node))

    def _one(self, parent: int, node: Node, steps: tuple[bytes, ...], *, is_all: bool) -> None:
        """Copy what is no directory; with ``is_all`` failure is the copy's, not one note of it."""
        try:
            self._any(parent, node, steps)
        except FormatError as error:
            if is_all:
                raise
            self.report.is_damaged(error.message)
        except OSError as error:
            reason = or_fatal(error, self.report.path).strerror
            if is_all:
                raise RefusedError(f"{self.report.path}: {reason}") from error
            self.report.note(f"left out: {reason}")

    def _any(self, parent: int, node: Node, steps: tuple[bytes, ...]) -> None:
        report, name = self.report, steps[-1]
        if node.is_link:
            target = self._files.link(node)
            self._writer.link(parent, name, node, target, report.note)
            report.links += 1
            if self._files.xattrs(node):
                report.note("attributes of a symbolic link not kept")
        elif node.type != stat.S_IFREG:
            report.note(f"left out: a {TYPES[node.type]}")
        elif node.number in self._first_names:
            self._writer.hard_link(self._first_names[node.number], parent, name)
        else:
            self._writer.file(
                parent, name, node, lambda fd: self._fill(fd, node),
                lambda: self._xattrs(node), report.note,
            )  # fmt: skip
            report.files += 1
            if node.links > 1:
                self._remember(node, steps)

    def _remember(self, node: Node, steps: tuple[bytes, ...]) -> None:
        if len(self._first_names) < HARD_LINKS_MAX:
            self._first_names[node.number] = steps
        else:
            self.report.note("copied on its own: too many files have several names")

    def _xattrs(self, node: Node) -> list[tuple[bytes, bytes]]:
        try:
            return self._files.xattrs(node)
        except FormatError as error:
            if isinstance(error, ChecksumError):
                raise
            self.report.note(f"attributes not kept: {error.message}")
            return []

    def _fill(self, fd: int, node: Node) -> None:
        os.ftruncate(fd, node.size)
        inline = self._files.inline(node)
        if inline is not None:
            self._count(len(inline))
            write_all(fd, 0, inline)
            return
        for run in self._files.runs(node):
            for at in range(0, run.length, PIECE_SIZE):
                length = min(PIECE_SIZE, run.length - at)
                self._count(length)
                data = self._files.source.read_at(run.place + at, length)
                write_all(fd, run.start + at, data)

    def _count(self, size: int) -> None:
        self.report.data += size
        self._check_going()
        if self.report.data > SHARE_MAX * self._files.source.size:
            raise RefusedError(
                f"the files are more than {SHARE_MAX} times as large as their file system",
                effect=f"The copy ends here. {_WRITTEN}",
                hint="The image may be made to fill disks. Copy parts of it.",
            )

    def _check_going(self) -> None:
        self._progress(self.report)
        if self._cancelled():
            raise CancelledRunError("the copy was cancelled", effect=_WRITTEN)


def _place(to: str, name: bytes) -> tuple[str, bytes]:
    """Return the directory to write to, and the name in it; "" for the directory itself."""
    if os.path.isdir(to):
        return to, name
    parent, last = os.path.split(to.rstrip("/"))
    return parent or "/", os.fsencode(last)


def _shown(steps: tuple[bytes, ...]) -> str:
    return b"/".join(steps).decode(errors="replace") or "/"
