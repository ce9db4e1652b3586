"""A place far away made steady: tried again, never waited for in vain, within its bandwidth. Edge.

Every call runs in a thread of its own, so that one that hangs can be given up. What such a thread
does later hurts nobody: names are written once, and a lock that comes late is let go at once.
The rules are in ``pace.py``. What the threads of a process share about one target is its ``Line``.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, runtime_checkable

from blocksnapd.errors import ObjectExistsError, RepositoryFormatError, StoreError
from blocksnapd.pace import FREE_TRAFFIC, RETRY_S_MAX, Pacer, Traffic, backoff_s, patience_s
from blocksnapd.units import format_count, format_duration

if TYPE_CHECKING:
    from blocksnapd.store.objects import Lock, ObjectStore

T = TypeVar("T")
Moved = Callable[[int], None]

PIECE_SIZE = 256 << 10
READ_SIZE = 1 << 20  # of an object of unknown size, at once
HANGING_MAX = 4  # calls given up whose threads did not end: each may hold a pack
_SLICE_S = 1.0


@dataclass(frozen=True, slots=True)
class Means:
    """Time and chance, handed in by tests."""

    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    localtime: Callable[[], time.struct_time] = time.localtime
    dice: Callable[[], float] = random.random


MEANS = Means()


@dataclass(frozen=True, slots=True)
class Counts:
    """What a line has done: bytes handed over, seconds held back, calls repeated and given up."""

    sent_bytes: int = 0
    throttled_s: float = 0.0
    retries: int = 0
    stalls: int = 0


class Line:
    """What all traffic of this process with one target shares. Thread-safe."""

    def __init__(self, traffic: Traffic = FREE_TRAFFIC, means: Means = MEANS) -> None:
        self._traffic, self._means = traffic, means
        self._pacer, self._guard = Pacer(), threading.Lock()
        self._sent = self._retries = self._stalls = self._hanging = 0
        self._throttled_s = 0.0
        self._is_down = False

    def counts(self) -> Counts:
        """Return what it has done so far."""
        with self._guard:
            return Counts(self._sent, self._throttled_s, self._retries, self._stalls)

    def rate(self) -> int | None:
        """Return the bytes per second that may be sent now; None: any."""
        now = self._means.localtime()
        return self._traffic.rate_at(now.tm_wday, 60 * now.tm_hour + now.tm_min)

    def call(
        self, place: str, work: Callable[[Moved], T], *, size: int = 0,
        undo: Callable[[T], None] | None = None,
    ) -> T:  # fmt: skip
        """Return what ``work`` returns, tried again while it fails in a way that may pass.

        Once a place was given up, it has one try a call until one succeeds: a cycle that cannot
        succeed should end soon.

        Args:
            place: whose name an error tells.
            work: is given what it calls with a number of bytes whenever it got on by so many.
            size: bytes it has to move of which it tells nothing.
            undo: is called with the result if that came after the call was given up.

        Raises:
            StoreError: it failed to the end, or stalled. Whatever else ``work`` raises.
        """
        began, failures = self._means.monotonic(), 0
        while True:
            try:
                result = self._once(place, work, size, undo)
            except StoreError as error:
                if not error.transient:
                    raise
                failures += 1
                wait = backoff_s(failures, self._means.dice())
                tried_s = self._means.monotonic() - began
                if self._is_down or tried_s + wait > RETRY_S_MAX:
                    self._is_down = True
                    if failures > 1:
                        error.message += f" ({failures} tries in {format_duration(tried_s)})"
                        error.args = (error.message,)
                    raise
                with self._guard:
                    self._retries += 1
                self._means.sleep(wait)
            else:
                self._is_down = False
                return result

    def paced(self, parts: Sequence[bytes | memoryview], moved: Moved) -> Iterator[memoryview]:
        """Yield ``parts`` in pieces, each when it has its turn."""
        for part in parts:
            view = memoryview(part).cast("B")
            for at in range(0, len(view), PIECE_SIZE):
                piece = view[at : at + PIECE_SIZE]
                self._await_turn(len(piece), moved)
                moved(len(piece))
                yield piece

    def _await_turn(self, size: int, moved: Moved) -> None:
        rate = self.rate()
        with self._guard:
            self._sent += size
            wait = self._pacer.wait_s(size, rate, self._means.monotonic()) if rate else 0.0
            self._throttled_s += wait
        while wait > 0:
            part = min(wait, _SLICE_S)
            self._means.sleep(part)
            moved(0)
            wait -= part

    def _once(
        self, place: str, work: Callable[[Moved], T], size: int, undo: Callable[[T], None] | None
    ) -> T:
        with self._guard:
            hanging = self._hanging
        if hanging >= HANGING_MAX:
            raise StoreError(
                f"{place} has not answered {format_count(hanging, 'call')} for long",
                effect="Nothing new is asked of it; earlier points are untouched.",
                hint="Look after the network and the target; a restart of the daemon forgets them.",
            )
        call = _Call(work, undo, self._traffic.stall_s, size)
        if call.wait(self._note_ended):
            return call.result()
        with self._guard:
            self._stalls += 1
            self._hanging += 1
        call.give_up()
        raise StoreError(
            f"{place} stalled: not a byte moved for {format_duration(call.patience_s)}",
            effect="The call was given up; earlier points are untouched.",
            hint="Look after the network and the target; it is tried again.",
        )

    def _note_ended(self) -> None:
        with self._guard:
            self._hanging -= 1


class _GivenUpError(Exception):
    """Ends the thread of a call that nobody waits for."""


class _Call(Generic[T]):
    # One try in a thread of its own. ``wait`` ends when it has ended or shows no life any more.

    def __init__(
        self,
        work: Callable[[Moved], T],
        undo: Callable[[T], None] | None,
        stall_s: float,
        size: int,
    ) -> None:
        self._work, self._undo, self._stall_s, self._size = work, undo, stall_s, size
        self._seen = time.monotonic()
        self._ended, self._guard = threading.Event(), threading.Lock()
        self._is_given_up = False
        self._note_late: Callable[[], None] = lambda: None
        self._value: list[T] = []
        self._error: BaseException | None = None

    @property
    def patience_s(self) -> float:
        """For how long it may show nothing."""
        return patience_s(self._stall_s, self._size)

    def wait(self, note_late: Callable[[], None]) -> bool:
        """Return whether it ended; ``note_late`` is called when it does after it was given up."""
        self._note_late = note_late
        threading.Thread(target=self._run, name="blocksnap-call", daemon=True).start()
        while not self._ended.is_set():
            left = self._seen + self.patience_s - time.monotonic()
            if left <= 0:
                return False
            self._ended.wait(left)
        return True

    def result(self) -> T:
        """Return or raise what the work did."""
        if self._error is not None:
            raise self._error
        return self._value[0]

    def give_up(self) -> None:
        """Wait no more."""
        with self._guard:
            self._is_given_up = True
            if self._ended.is_set():  # in this very moment
                self._end_late()

    def _moved(self, size: int) -> None:
        if self._is_given_up:
            raise _GivenUpError
        self._size += size  # handed over; whether it arrived shows at the end alone
        self._seen = time.monotonic()

    def _run(self) -> None:
        try:
            self._value.append(self._work(self._moved))
        except BaseException as error:
            self._error = error
        with self._guard:
            self._ended.set()
            if self._is_given_up:
                self._end_late()

    def _end_late(self) -> None:
        self._note_late()
        if self._undo is not None and self._value:
            self._undo(self._value[0])


@runtime_checkable
class PutsAlong(Protocol):
    """A place that finds its own object when a put is repeated, and need not let it be read."""

    def put_along(
        self,
        name: str,
        parts: Sequence[bytes | memoryview],
        pace: Callable[[Sequence[bytes | memoryview]], Iterable[bytes | memoryview]],
    ) -> int:
        """Do as ``put``; send ``parts`` as ``pace`` gives them."""


class SteadyStore:
    """An ObjectStore over another one, along a line. Thread-safe."""

    def __init__(self, inner: ObjectStore, line: Line) -> None:
        self._inner, self._line = inner, line

    @property
    def url(self) -> str:
        """The place, for people."""
        return self._inner.url

    def put(self, name: str, parts: Iterable[bytes | memoryview]) -> int:
        """Create an object; what an earlier try of this call put is success."""
        held, tries = list(parts), 0

        def put(moved: Moved) -> int:
            nonlocal tries
            tries += 1
            if isinstance(self._inner, PutsAlong):
                return self._inner.put_along(name, held, lambda p: self._line.paced(p, moved))
            try:
                return self._inner.put(name, self._line.paced(held, moved))
            except ObjectExistsError:
                if tries == 1 or not self._holds(name, held, moved):
                    raise
                return sum(memoryview(part).nbytes for part in held)

        return self._line.call(self.url, put)

    def get(self, name: str, *, size_max: int) -> bytes:
        """Return a whole object, read in parts: how far it got shows, and a cut costs one part."""
        data = self.get_range(name, 0, READ_SIZE)
        if len(data) < READ_SIZE and len(data) <= size_max:
            return data
        size = self.size(name)
        if size > size_max:
            raise RepositoryFormatError(f"{name} has {size} bytes, more than {size_max}")
        rest = range(READ_SIZE, size, 4 * READ_SIZE)
        return data + b"".join(self.get_range(name, at, 4 * READ_SIZE) for at in rest)

    def get_range(self, name: str, offset: int, size: int) -> bytes:
        """Return a part of an object."""
        return self._line.call(
            self.url, lambda _: self._inner.get_range(name, offset, size), size=size
        )

    def size(self, name: str) -> int:
        """Return the bytes of an object."""
        return self._line.call(self.url, lambda _: self._inner.size(name))

    def age(self, name: str) -> float:
        """Return for how many seconds an object has been there."""
        return self._line.call(self.url, lambda _: self._inner.age(name))

    def exists(self, name: str) -> bool:
        """Return whether the object is there."""
        return self._line.call(self.url, lambda _: self._inner.exists(name))

    def list_names(self, prefix: str) -> list[str]:
        """Return all names below ``prefix``."""
        return self._line.call(self.url, lambda _: self._inner.list_names(prefix))

    def children(self, prefix: str) -> list[str]:
        """Return the next parts of names below ``prefix``."""
        return self._line.call(self.url, lambda _: self._inner.children(prefix))

    def delete(self, name: str) -> None:
        """Remove an object."""
        self._line.call(self.url, lambda _: self._inner.delete(name))

    def settle(self, prefix: str) -> None:
        """Make durable what may be seen."""
        self._line.call(self.url, lambda _: self._inner.settle(prefix))

    def free_size(self) -> int | None:
        """Return how many bytes there is room for."""
        return self._line.call(self.url, lambda _: self._inner.free_size())

    def lock(self, prefix: str) -> Lock:
        """Become the one writer below ``prefix``."""
        return self._line.call(
            self.url, lambda _: self._inner.lock(prefix), undo=lambda lock: lock.release()
        )

    def _holds(self, name: str, held: list[bytes | memoryview], moved: Moved) -> bool:
        # Whether the object is what was to be put: an answer got lost.
        whole = b"".join(held)
        if self._inner.size(name) != len(whole):
            return False
        step = 16 * PIECE_SIZE
        for at in range(0, len(whole), step):
            moved(0)
            if self._inner.get_range(name, at, step) != whole[at : at + step]:
                return False
        return True


_LINES: dict[tuple[str, Traffic], Line] = {}
_LINES_GUARD = threading.Lock()


def line_to(url: str, traffic: Traffic) -> Line:
    """Return this process's line to a target: always the same one."""
    with _LINES_GUARD:
        return _LINES.setdefault((url, traffic), Line(traffic))
