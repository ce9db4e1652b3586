"""How many bytes the objects of a host take, so that nobody takes more than the quota. Edge.

Counted once when that is first asked for (a walk through a directory, lists of a bucket), and from
then on by what is put. Maintenance is another process and frees room; so before anybody is refused,
and now and then, it is counted again. Thread-safe.

Two receivers before one bucket count for themselves: between two counts a host can exceed its quota
by what the other receivers take of it meanwhile, which is at most what it sends in
``Root.count_again_s``, five minutes, and no more than its quota again for each of them.

An object counts as ``OBJECT_SIZE_MIN`` bytes at least: empty ones without end would take the disk's
inodes from everybody.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from blocksnapd.errors import QuotaError
from blocksnapd.units import format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOOK_AGAIN_S = 30.0  # before a refusal, but no more often
OBJECT_SIZE_MIN = 4096


class Usage:
    """The bytes that ``count`` finds, at least every ``again_s``, and those on their way there."""

    def __init__(
        self,
        count: Callable[[], int],
        again_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._count, self._again_s, self._clock = count, again_s, clock
        self._lock = threading.Lock()
        self._used: int | None = None
        self._reserved = 0
        self._counted = 0.0

    @property
    def known(self) -> int | None:
        """Bytes as last counted; None before."""
        return self._used

    def used(self) -> int:
        """Return the bytes that are there or reserved; may count."""
        with self._lock:
            return self._fresh(self._again_s) + self._reserved

    @contextmanager
    def reserved(self, size: int, quota: int, host: str) -> Iterator[None]:
        """Hold room for ``size`` bytes; what leaves this without an error was put there.

        Raises:
            QuotaError: there is none.
        """
        size = max(size, OBJECT_SIZE_MIN)
        with self._lock:
            used = self._fresh(self._again_s)
            if used + self._reserved + size > quota:
                used = self._fresh(LOOK_AGAIN_S)
            if used + self._reserved + size > quota:
                raise QuotaError(
                    f"the quota of host {host} is {format_size(quota)}, "
                    f"{format_size(used + self._reserved)} of it are used and "
                    f"{format_size(size)} more are wanted",
                    effect="Nothing was committed; earlier points are untouched; the snapshot goes "
                    "on tracking.",
                    hint="On the receiver, raise the quota of the host or have its repository "
                    "pruned; the next cycle tries again.",
                )
            self._reserved += size
        is_there = False
        try:
            yield
            is_there = True
        finally:
            with self._lock:
                self._reserved -= size
                if self._used is not None and is_there:
                    self._used += size

    def _fresh(self, age_s: float) -> int:
        if self._used is None or self._clock() - self._counted > age_s:
            self._used = self._count()
            self._counted = self._clock()
        return self._used


def bytes_below(directory: str) -> int:
    """Return what the files below ``directory`` take; 0: there is none."""
    total = 0
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    total += bytes_below(entry.path)
                else:
                    total += _size(entry)
    except (FileNotFoundError, NotADirectoryError):
        return total
    return total


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return max(entry.stat(follow_symlinks=False).st_size, OBJECT_SIZE_MIN)
    except FileNotFoundError:
        return 0  # collected meanwhile
