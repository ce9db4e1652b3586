"""The host of a simulated history: its volume changes, it commits, it comes back after a crash.

It remembers its newest point as a real source does, so that it notices a place that hides points.
A point whose session was cut it mostly ships again from the same snapshot, as the daemon does: what
the session log tells of is not sent twice.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.blocks import hash_blocks, state_sum
from blocksnapd.errors import BlocksnapError, CondemnedError, ObjectExistsError
from blocksnapd.model import PointFacts
from blocksnapd.ship.again import KnownWithout
from blocksnapd.store.repository import Repository
from tests.fakes.faulty_objects import Killed
from tests.fakes.remembered import Remembered
from tests.sim.world import BLOCK, VOLUME, ImageOf, Known, World, need

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocksnapd.model import PointHead, RestorePoint, Wanted
    from blocksnapd.store.sink import Sink
    from tests.fakes.faulty_objects import FaultyObjects

BLOCKS_MAX = 160


@dataclass(frozen=True)
class Attempt:
    """A point whose commit was asked for: what becomes of it shows at the next look."""

    point_id: str
    image: ImageOf
    records: list[bytes] | None  # None: it may be an earlier try's, with other packs
    zeros: list[int]
    is_full: bool


class Source:
    """The one writer of the volume."""

    def __init__(self, world: World) -> None:
        self._world, self._rng = world, world.rng
        count = self._rng.randint(8, BLOCKS_MAX)
        self._ids = np.zeros(count, dtype=np.int64)
        self._size = count * BLOCK
        self._next_id, self._number = 1, 0
        self._doubt: Attempt | None = None
        self._memory = Remembered()
        self._cut: tuple[str, ImageOf] | None = None
        self._chance = random.Random(world.seed)
        self._log = world.scratch("session")
        self._write(self._rng.randint(1, count))

    @property
    def image(self) -> ImageOf:
        """The volume's content now."""
        return ImageOf(self._ids.copy(), self._size)

    def change(self) -> None:
        """Let the volume's users do something to it."""
        for _ in range(self._rng.randint(0, 3)):
            deed = self._rng.choice((self._write, self._write, self._copy, self._zero))
            deed(self._rng.choice((1, 3, 10, 40)))
        if self._rng.random() < 0.06:
            self._resize()

    def settle(self) -> PointHead | None:
        """Look at the repository as after a start, without faults; learn what became of a doubt."""
        store = self._world.place.process()
        head = Repository.on(store, source=self._world.keys.source).newest(VOLUME)
        self._learn(head)
        store.die()
        return head

    def commit(
        self, meanwhile: Callable[[], None] | None = None, *, is_faulty: bool = True
    ) -> None:
        """Commit a point of the volume as it is now, through a place that may fail at any call.

        ``meanwhile`` happens while the session is under way, before it commits.
        """
        point_id, image = self._next()
        if self._rng.random() < 0.02:
            self._memory = Remembered()  # the disk with the source's state was lost
            self._world.tell("the source forgot where its content lies")
        store = self._world.process(16, 3) if is_faulty else self._world.place.process()
        # Time passed since the session began, and a collection may have thought it dead.
        allowed = (CondemnedError,) if meanwhile or self._log.exists() else ()
        self._world.attempt(
            f"commit {point_id}", store, lambda: self._run(store, point_id, image, meanwhile),
            allowed,
        )  # fmt: skip
        store.die()

    def boot(self) -> None:
        """Learn that the host's power was cut: no session goes on from before that."""
        self._log.unlink(missing_ok=True)

    def _next(self) -> tuple[str, ImageOf]:
        # The point whose snapshot is still there, or a new one.
        cut, self._cut = self._cut, None
        if cut is None or self._chance.random() < 0.3:
            self._number += 1
            cut = f"p{self._number:016x}", self.image
        elif self._log.exists():
            self._world.tell(f"{cut[0]} goes on")
        return cut

    def _run(
        self,
        store: FaultyObjects,
        point_id: str,
        image: ImageOf,
        meanwhile: Callable[[], None] | None,
    ) -> None:
        world = self._world
        repository = Repository.on(store, source=world.keys.source)
        head = repository.newest(VOLUME)
        self._learn(head)
        if head is not None and head.point_id == point_id:
            return  # it had been committed
        self._cut = point_id, image
        wanted = repository.wanted(VOLUME)
        known = KnownWithout(self._memory, wanted) if len(wanted.blocks) else self._memory
        sink = repository.begin(
            VOLUME, point_id, block_size=BLOCK, base=head, known=known, log=str(self._log)
        )
        try:
            is_full = world.newest is None or head.is_damaged or wanted.afresh
            is_full = is_full or self._rng.random() < 0.05
            base = None if is_full else world.newest.image
            zeros = self._feed(sink, image, base, self._still_held(wanted, image))
            if meanwhile:
                meanwhile()
            facts = self._facts(point_id, image, full=base is None)
            self._doubt = Attempt(point_id, image, sink.finish(facts), zeros, base is None)
            self._commits(sink.commit(facts), self._doubt)
            self._cut = None
        except Killed:
            raise
        except ObjectExistsError:
            if self._doubt is not None:
                self._doubt = replace(self._doubt, records=None)
            sink.abort()
            raise
        except BlocksnapError:
            sink.abort()
            raise

    def _learn(self, head: PointHead | None) -> None:
        # The newest point is the last one that was acknowledged, or the one in doubt after it.
        world, doubt = self._world, self._doubt
        known = world.newest
        if head is None or (known and head.name == known.point.name):
            need(head or not known, "the repository says that it has no point")
            is_same = not head or head.is_damaged or not known or head == known.point.head
            need(is_same, "the newest point changed")
            self._doubt = None
            self._memory.abandoned()
            return
        need(doubt and head.point_id == doubt.point_id, f"{head.name} was never committed")
        need(head.seq == (known.point.seq if known else 0) + 1, f"{head.name} is out of line")
        self._commits(world.reader().load_point(head.name), doubt)
        world.tell(f"{head.point_id} had been committed")

    def _commits(self, point: RestorePoint, done: Attempt) -> None:
        self._doubt = None
        self._world.points[point.name] = Known(point, done.image)
        blocks = len(done.image.ids)
        if done.records is None:
            self._memory = Remembered()
            return
        self._memory.committed(done.records, done.zeros, full=done.is_full, blocks=blocks)

    def _still_held(self, wanted: Wanted, image: ImageOf) -> np.ndarray:
        # Which damaged blocks of the repository the volume has as they were.
        blocks = wanted.blocks.astype(np.intp)
        inside = blocks < len(image.ids)
        blocks, identities = blocks[inside], wanted.identities[inside]
        if not len(blocks):
            return blocks
        rows = np.ascontiguousarray(image.rows()[blocks])
        same = (self._hashes(rows.reshape(-1).data) == identities).all(axis=1)
        return np.unique(blocks[(same | ~identities.any(axis=1)) & rows.any(axis=1)])

    def _feed(
        self, sink: Sink, image: ImageOf, base: ImageOf | None, again: np.ndarray
    ) -> list[int]:
        # Ships what changed, and ``again``. Returns the blocks that were told to be zero.
        rows = image.rows()
        before = np.zeros_like(rows)
        if base is not None:
            old = base.rows()
            before[: len(old)] = old[: len(rows)]
        changed = np.union1d(np.flatnonzero((rows != before).any(axis=1)), again)
        batch = self._rng.choice((3, 20, 1000))
        for at in range(0, len(changed), batch):
            part = changed[at : at + batch]
            has = rows[part].any(axis=1)
            blocks, zeros = part[has].astype(np.uint64), part[~has].astype(np.uint64)
            data = np.ascontiguousarray(rows[part[has]]).reshape(-1).data
            sink.add(blocks, self._hashes(data), data)
            sink.add_zeros(zeros, np.ones(len(zeros), dtype=np.uint64))
        return changed[~rows[changed].any(axis=1)].tolist()

    def _facts(self, point_id: str, image: ImageOf, *, full: bool) -> PointFacts:
        rows = image.rows()
        present = np.flatnonzero(rows.any(axis=1)).astype(np.uint64)
        data = np.ascontiguousarray(rows[present.astype(np.intp)]).reshape(-1).data
        return PointFacts(
            volume_id=VOLUME, volume_name="sim", point_id=point_id, time=self._world.time(),
            size=image.size, block_size=BLOCK, kind="full" if full else "delta", method="tracked",
            driver="sim", consistency="crash", chunk_size=BLOCK, changed_bytes=0,
            state_sum=state_sum(present, self._hashes(data)),
        )  # fmt: skip

    def _hashes(self, data: memoryview) -> np.ndarray:
        return hash_blocks(data, BLOCK, self._world.keys.source.hash_key)

    def _some(self, count: int) -> np.ndarray:
        first = self._rng.randrange(len(self._ids))
        if self._rng.random() < 0.5:
            return np.arange(first, min(first + count, len(self._ids)))
        return np.array([self._rng.randrange(len(self._ids)) for _ in range(count)])

    def _write(self, count: int) -> None:
        for block in self._some(count).tolist():
            self._ids[block] = self._next_id
            self._next_id += 1

    def _copy(self, count: int) -> None:
        self._ids[self._some(count)] = self._ids[self._rng.randrange(len(self._ids))]

    def _zero(self, count: int) -> None:
        self._ids[self._some(count)] = 0

    def _resize(self) -> None:
        # The block at the old end was cut; its content counts as new, whatever the new end.
        size = self._rng.randint(1, BLOCKS_MAX * BLOCK // 512) * 512
        ids = np.zeros(-(-size // BLOCK), dtype=np.int64)
        kept = min(len(ids), len(self._ids))
        ids[:kept] = self._ids[:kept]
        ids[kept - 1] = self._next_id
        self._next_id += 1
        self._ids, self._size = ids, size
