"""A place for objects with faults: processes die inside calls, power fails, answers get lost.

    place = Place(MemoryObjects())
    store = place.process(Faults(random.Random(7), at={3}))     # the third call goes wrong
    place.cut_power(random.Random(8))

What the contract of ``ObjectStore`` promises holds: what ``put`` returned from is durable. What a
killed ``put`` left may be seen, and goes with the power unless someone settled its folder; what a
killed ``delete`` removed may come back. A ``Place`` that *lies* promises and does not keep: a power
cut takes, empties or tears also what ``put`` returned from. Nobody survives that; it must be found.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from blocksnapd.errors import BusyError, StoreError, StoreFullError

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable

    from blocksnapd.store.objects import Lock, ObjectStore

# What may go wrong with each verb; "after": the deed is done, and then the process dies.
KINDS = {
    "put": ("eio", "kill", "after", "full", "lost-ack", "twice"),
    "delete": ("eio", "kill", "after", "lost-ack"),
    "get": ("eio", "kill", "flip"),
    "get_range": ("eio", "kill", "flip"),
    "size": ("eio", "kill"),
    "age": ("eio", "kill"),
    "exists": ("eio", "kill"),
    "list_names": ("eio", "kill", "shrink"),
    "children": ("eio", "kill", "shrink"),
    "settle": ("eio", "kill"),
    "free_size": ("eio", "kill"),
    "lock": ("eio", "kill", "busy"),
}
CHANGES = ("put", "delete")
SURVIVABLE = frozenset(("eio", "kill", "after", "full", "lost-ack", "twice", "busy", "flip"))
EVERY = SURVIVABLE | {"shrink"}


class Killed(BaseException):
    """The process ended here; nothing but a test may catch it."""


@dataclass
class Faults:
    """Which calls of a process go wrong, and ``rng`` says how.

    Those whose number is in ``at``; of the changing ones, puts and deletes counted by themselves,
    those in ``changes``.
    """

    rng: random.Random
    at: set[int] = field(default_factory=set)
    changes: set[int] = field(default_factory=set)
    kinds: frozenset[str] = SURVIVABLE

    def draw(self, verb: str, call: int, change: int) -> str:
        """Return what goes wrong with a call, empty for nothing."""
        if call not in self.at and not (verb in CHANGES and change in self.changes):
            return ""
        possible = [kind for kind in KINDS[verb] if kind in self.kinds]
        return self.rng.choice(possible) if possible else ""


class Place:
    """Objects that outlive processes, and what of them a power cut would take."""

    def __init__(self, inner: ObjectStore, *, lies: bool = False) -> None:
        self.inner = inner
        self.lies = lies
        self.unsettled: dict[str, None] = {}  # seen, and not durable
        self.undead: dict[str, bytes] = {}  # removed, and not durably
        self.promised: dict[str, None] = {}  # said to be durable by a liar
        self._processes: list[FaultyObjects] = []

    def process(self, faults: Faults | None = None) -> FaultyObjects:
        """Return the place as a new process sees it."""
        self._processes = [p for p in self._processes if not p.is_dead]
        made = FaultyObjects(self, faults)
        self._processes.append(made)
        return made

    def cut_power(self, rng: random.Random) -> list[str]:
        """Kill every process and lose what was not durable; return what became of which name."""
        for process in self._processes:
            process.die()
        told = []
        for name in [n for n in self.unsettled if rng.random() < 0.5]:
            self.inner.delete(name)
            told.append(f"lost {name}")
        for name in [n for n in self.undead if rng.random() < 0.5]:
            if not self.inner.exists(name):
                self.inner.put(name, [self.undead[name]])
                told.append(f"back {name}")
        broken = [n for n in self.promised if rng.random() < 0.5]
        told += [self._break_promise(rng, name) for name in broken]
        self.unsettled, self.undead, self.promised = {}, {}, {}
        return told

    def _break_promise(self, rng: random.Random, name: str) -> str:
        if not self.inner.exists(name):
            return f"kept away {name}"
        data = self.inner.get(name, size_max=1 << 40)
        self.inner.delete(name)
        left = rng.choice((None, 0, rng.randrange(len(data) + 1)))
        if left is None:
            return f"took {name}"
        self.inner.put(name, [data[:left]])
        return f"left {left} bytes of {name}"

    def settle(self, prefix: str) -> None:
        """Make the names in the folder ``prefix``, not in those below, durable."""

        def inside(name: str) -> bool:
            return name.startswith(prefix) and "/" not in name[len(prefix) :]

        self.unsettled = {n: None for n in self.unsettled if not inside(n)}
        self.undead = {n: d for n, d in self.undead.items() if not inside(n)}


class FaultyObjects:
    """An ObjectStore as one process sees it; ``happened`` tells its faults."""

    def __init__(self, place: Place, faults: Faults | None) -> None:
        self._place, self._inner, self._faults = place, place.inner, faults
        self._locks: list[Lock] = []
        self._guard = threading.RLock()
        self.calls = self.changes = 0
        self.is_dead = False
        self.happened: list[str] = []

    @property
    def url(self) -> str:
        return self._inner.url

    def die(self) -> None:
        """End the process: locks are free, every further call ends in ``Killed``."""
        self.is_dead = True
        for lock in self._locks:
            lock.release()

    def put(self, name: str, parts: Iterable[bytes | memoryview]) -> int:
        data = b"".join(parts)
        with self._guard:
            kind = self._begin("put", name)
            if kind == "full":
                raise StoreFullError(f"no room for {name}")
            if kind == "twice" and not self._inner.exists(name):
                self._inner.put(name, [data])  # the first try's answer got lost; this is the second
            size = self._inner.put(name, [data])
            if kind == "after":
                self._place.unsettled[name] = None
            elif self._place.lies:
                self._place.promised[name] = None
            return self._end(kind, name, size)

    def delete(self, name: str) -> None:
        with self._guard:
            kind = self._begin("delete", name)
            there = self._inner.exists(name)
            data = self._inner.get(name, size_max=1 << 40) if there else b""
            self._inner.delete(name)
            self._place.unsettled.pop(name, None)
            if kind == "after" and there:
                self._place.undead[name] = data
            self._end(kind, name, None)

    def get(self, name: str, *, size_max: int) -> bytes:
        kind = self._begin("get", name)
        return self._flipped(kind, self._inner.get(name, size_max=size_max))

    def get_range(self, name: str, offset: int, size: int) -> bytes:
        kind = self._begin("get_range", name)
        return self._flipped(kind, self._inner.get_range(name, offset, size))

    def size(self, name: str) -> int:
        self._begin("size", name)
        return self._inner.size(name)

    def age(self, name: str) -> float:
        self._begin("age", name)
        return self._inner.age(name)

    def exists(self, name: str) -> bool:
        self._begin("exists", name)
        return self._inner.exists(name)

    def list_names(self, prefix: str) -> list[str]:
        return self._listed("list_names", prefix, self._inner.list_names)

    def children(self, prefix: str) -> list[str]:
        return self._listed("children", prefix, self._inner.children)

    def settle(self, prefix: str) -> None:
        self._begin("settle", prefix)
        self._inner.settle(prefix)
        self._place.settle(prefix)

    def free_size(self) -> int | None:
        self._begin("free_size", "")
        return self._inner.free_size()

    def lock(self, prefix: str) -> Lock:
        if self._begin("lock", prefix) == "busy":
            raise BusyError(f"another writer is at work in {prefix}")
        lock = self._inner.lock(prefix)
        self._locks.append(lock)
        return lock

    def _begin(self, verb: str, name: str) -> str:
        # Count the call; die or fail here unless the fault comes later in the call.
        with self._guard:
            if self.is_dead:
                raise Killed(f"{verb} {name} by a dead process")
            self.calls += 1
            self.changes += verb in CHANGES
            kind = self._faults.draw(verb, self.calls, self.changes) if self._faults else ""
            if kind:
                self.happened.append(f"{kind} at {verb} {name}")
            if kind == "kill":
                self.die()
                raise Killed(f"before {verb} {name}")
            if kind == "eio":
                raise StoreError(f"{verb} {name} failed: input/output error")
            return kind

    def _end(self, kind: str, name: str, value: int | None) -> int:
        if kind == "after":
            self.die()
            raise Killed(f"after {name}")
        if kind == "lost-ack":
            raise StoreError(f"no answer about {name}")
        return value or 0

    def _listed(self, verb: str, prefix: str, ask: Callable[[str], list[str]]) -> list[str]:
        kind, names = self._begin(verb, prefix), ask(prefix)
        if kind != "shrink" or not names or self._faults is None:
            return names
        rng = self._faults.rng
        return [n for n in names if rng.random() < 0.7] if rng.random() < 0.8 else []

    def _flipped(self, kind: str, data: bytes) -> bytes:
        if kind != "flip" or not data or self._faults is None:
            return data
        spoiled = bytearray(data)
        spoiled[self._faults.rng.randrange(len(data))] ^= 1 << self._faults.rng.randrange(8)
        return bytes(spoiled)
