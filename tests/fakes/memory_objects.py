"""Objects in memory: passes the same contract suite as the local directory."""

from __future__ import annotations

import time
from threading import Lock
from typing import TYPE_CHECKING

from blocksnapd.errors import (
    BusyError,
    ObjectExistsError,
    RepositoryFormatError,
    StoreFullError,
    StoreMissingError,
)
from blocksnapd.store.names import check_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class MemoryObjects:
    """An ObjectStore in a dict; ``objects`` may be changed by tests to damage it.

    ``clock`` tells how old objects are; ``born`` when they were put.
    """

    url = "memory"

    def __init__(
        self, room: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.objects: dict[str, bytes] = {}
        self.born: dict[str, float] = {}
        self.clock = clock
        self.room = room
        self._locked: set[str] = set()
        self._guard = Lock()

    def put(self, name: str, parts: Iterable[bytes | memoryview]) -> int:
        data = b"".join(parts)
        with self._guard:
            if check_name(name) in self.objects:
                raise ObjectExistsError(f"{name} exists")
            free = self.free_size()
            if free is not None and len(data) > free:
                raise StoreFullError(f"no room for {name}")
            self.objects[name] = data
            self.born[name] = self.clock()
        return len(data)

    def get(self, name: str, *, size_max: int) -> bytes:
        data = self._find(name)
        if len(data) > size_max:
            raise RepositoryFormatError(f"{name} has {len(data)} bytes, more than {size_max}")
        return data

    def get_range(self, name: str, offset: int, size: int) -> bytes:
        return self._find(name)[offset : offset + size]

    def size(self, name: str) -> int:
        return len(self._find(name))

    def age(self, name: str) -> float:
        self._find(name)
        return self.clock() - self.born.get(name, 0.0)

    def exists(self, name: str) -> bool:
        return check_name(name) in self.objects

    def list_names(self, prefix: str) -> list[str]:
        return sorted(name for name in self.objects if name.startswith(prefix))

    def children(self, prefix: str) -> list[str]:
        return sorted({n[len(prefix) :].split("/")[0] for n in self.list_names(prefix)})

    def delete(self, name: str) -> None:
        self.objects.pop(check_name(name), None)

    def settle(self, prefix: str) -> None:
        """Memory is as durable as it gets."""

    def free_size(self) -> int | None:
        if self.room is None:
            return None
        return self.room - sum(map(len, self.objects.values()))

    def lock(self, prefix: str) -> MemoryLock:
        with self._guard:
            if prefix in self._locked:
                raise BusyError(f"another writer is at work in {prefix}")
            self._locked.add(prefix)
        return MemoryLock(self._locked, prefix)

    def _find(self, name: str) -> bytes:
        if check_name(name) not in self.objects:
            raise StoreMissingError(f"there is no {name}")
        return self.objects[name]


class MemoryLock:
    """A held lock."""

    is_everywhere = True

    def __init__(self, locked: set[str], prefix: str) -> None:
        self._locked, self._prefix = locked, prefix
        self._held = True

    def release(self) -> None:
        if self._held:
            self._held = False
            self._locked.discard(self._prefix)
