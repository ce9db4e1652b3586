"""What was used last, as much of it as fits a size. Edge (a lock). Thread-safe."""

from __future__ import annotations

from collections import OrderedDict
from threading import Event, Lock
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

T = TypeVar("T")


class SizedCache(Generic[T]):
    """Keeps values by key up to ``size_max`` bytes in all; the one used longest ago goes first.

    The newest value stays, however large.
    """

    def __init__(self, size_max: int, size_of: Callable[[T], int]) -> None:
        self._size_max, self._size_of = size_max, size_of
        self._values: OrderedDict[Hashable, T] = OrderedDict()
        self._size = 0
        self._making: dict[Hashable, Event] = {}
        self._lock = Lock()

    @property
    def size(self) -> int:
        """Bytes of all values."""
        return self._size

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the value of ``key``, made if it is not there; ``make`` runs without the lock.

        Who asks for what another thread makes just now waits for it: two that read side by side
        would open the same frame twice. ``make`` must not ask for its own key.
        """
        while True:
            with self._lock:
                if key in self._values:
                    self._values.move_to_end(key)
                    return self._values[key]
                others = self._making.get(key)
                if others is None:
                    mine = self._making[key] = Event()
                    break
            others.wait()
        try:
            made = make()
            self._keep(key, made)
        finally:
            with self._lock:
                del self._making[key]
            mine.set()
        return made

    def _keep(self, key: Hashable, made: T) -> None:
        with self._lock:
            self._values[key] = made
            self._size += self._size_of(made)
            while self._size > self._size_max and len(self._values) > 1:
                self._size -= self._size_of(self._values.popitem(last=False)[1])

    def clear(self) -> None:
        """Let everything go."""
        with self._lock:
            self._values.clear()
            self._size = 0
