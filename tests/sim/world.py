"""What a simulated history plays in: a place, a clock, keys, and the model that remembers all."""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.errors import BlocksnapError
from blocksnapd.store.repository import Repository
from tests.fakes.faulty_objects import SURVIVABLE, Faults, Killed, Place
from tests.fakes.memory_objects import MemoryObjects
from tests.store.support import make_repository

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocksnapd.model import RestorePoint
    from tests.fakes.faulty_objects import FaultyObjects

BLOCK = 4096
VOLUME = "vol-1"
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()


class BrokenError(AssertionError):
    """An invariant does not hold."""


def need(truth: object, sentence: str) -> None:
    """Raise ``BrokenError`` with ``sentence`` unless ``truth``."""
    if not truth:
        raise BrokenError(sentence)


@dataclass(frozen=True, eq=False)
class ImageOf:
    """A volume's content: ``ids[b]`` names what block ``b`` holds, 0 is zeros; ``size`` cuts."""

    ids: np.ndarray
    size: int

    def rows(self) -> np.ndarray:
        """Return the blocks' bytes, shape (blocks, BLOCK)."""
        rows = np.frombuffer(b"".join(map(content, self.ids.tolist())), dtype=np.uint8).copy()
        rows[self.size :] = 0
        return rows.reshape(-1, BLOCK)

    def bytes(self) -> bytes:
        return self.rows().tobytes()[: self.size]


@lru_cache(maxsize=4096)
def content(number: int) -> bytes:
    """Return the block called ``number``: 0 is zeros, every third is noise, others compress."""
    if number == 0:
        return bytes(BLOCK)
    rng = random.Random(number)
    return rng.randbytes(BLOCK) if number % 3 == 0 else rng.randbytes(64) * (BLOCK // 64)


@dataclass
class Known:
    """A committed point, as the model knows it."""

    point: RestorePoint
    image: ImageOf


@dataclass
class World:
    """One seed's world.

    ``points`` are those that were committed and must be listed; ``log`` has a line for each
    operation.
    """

    seed: int
    lies: bool = False
    now: float = START
    points: dict[str, Known] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    forgotten: dict[str, int] = field(default_factory=dict)  # name: until, µs
    expired: dict[str, Known] = field(default_factory=dict)
    events: Counter[str] = field(default_factory=Counter)  # what rounds of maintenance told
    rotten: set[str] = field(default_factory=set)  # objects that were damaged to stay so
    unknown: list[str] = field(default_factory=list)  # listed, and not known to be committed

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.objects = MemoryObjects(clock=lambda: self.now)
        self.keys = make_repository(self.objects)
        self.place = Place(self.objects, lies=self.lies)
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def newest(self) -> Known | None:
        """The last committed point."""
        return next(reversed(self.points.values()), None)

    @property
    def is_shaken(self) -> bool:
        """Whether a process died so that a power cut now would change something."""
        return bool(self.place.unsettled or self.place.undead)

    def scratch(self, name: str) -> Path:
        """Return a path on this host's disk, until ``close``."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="blocksnap-sim-")
        return Path(self._folder.name) / name

    def close(self) -> None:
        """Let the disk's scratch place go."""
        if self._folder is not None:
            self._folder.cleanup()

    def tell(self, line: str) -> None:
        """Add a line to the log."""
        self.log.append(line)

    def time(self) -> datetime:
        """Return the time, aware."""
        return datetime.fromtimestamp(self.now, UTC)

    def reader(self) -> Repository:
        """Return the repository as a reader with all keys sees it, without faults."""
        return Repository.on(self.place.process(), restore=self.keys)

    def process(
        self, calls: int, changes: int, kinds: frozenset[str] = SURVIVABLE
    ) -> FaultyObjects:
        """Return a process; often with faults within its first ``calls``, or first ``changes``."""
        rng = self.rng
        if rng.random() < 0.5:
            return self.place.process()
        if rng.random() < 0.5:
            return self.place.process(Faults(rng, changes={rng.randint(1, changes)}, kinds=kinds))
        at = {rng.randint(1, calls) for _ in range(rng.choice((1, 1, 2, 5)))}
        return self.place.process(Faults(rng, at, kinds=kinds))

    def attempt(
        self,
        what: str,
        store: FaultyObjects,
        deed: Callable[[], object],
        allowed: tuple[type[BlocksnapError], ...] = (),
    ) -> bool:
        """Do something as the process ``store``; return whether it went well, and log it.

        It may fail where ``store`` has faults, and with the errors ``allowed``.
        """
        try:
            deed()
        except Killed as killed:
            self.tell(f"{what}: killed {killed}; {_told(store)}")
            return False
        except BlocksnapError as error:
            may_fail = store.happened or isinstance(error, allowed)
            need(may_fail, f"{what} failed without a fault: {error.sentences()}")
            self.tell(f"{what}: {type(error).__name__} {error}; {_told(store)}")
            return False
        self.tell(f"{what}: done; {_told(store)}")
        return True


def _told(store: FaultyObjects) -> str:
    return f"{store.calls} calls; " + ("; ".join(store.happened) or "no fault")
