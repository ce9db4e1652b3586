"""Writing one point: blocks in, packs out, then the commit. Edge (threads).

    add ─▶ there already? ─▶ batch (1 MiB) ─▶ workers: zstd, AES ─▶ pack ─▶ pack_sender.py: put
              └▶ layer                                                       └▶ finish: the rest
                                                                                └▶ commit: the point

The order of § 2 in FORMAT.md holds because ``finish`` waits for every pack's ``put``, which is
durable on return, before ``commit`` puts the point. Memory: three packs, a few batches, the layer,
and the table of ``session_dedup.py``. What a commit looks at around its put is in ``commit.py``.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from blocksnapd.blocks import distinct, state_add, state_sum
from blocksnapd.errors import (
    CondemnedError,
    RefusedError,
    StoreError,
)  # fmt: skip
from blocksnapd.model import (
    KNOWN_PACK,
    NOWHERE,
    PACK_NUMBER_MASK,
    PointFacts,
    PointHead,
    RestorePoint,
)
from blocksnapd.runtime.buffers import buffers
from blocksnapd.store.commit import Commit
from blocksnapd.store.names import pack_name, point_name
from blocksnapd.store.pack_records import pack_ref_record, unpack_ref_record
from blocksnapd.store.pack_sender import PackSender
from blocksnapd.store.pack_writer import BATCH_SIZE, Batch, PackWriter
from blocksnapd.store.point_format import Body, Header, PackRef, ProofRecord, pack_point, to_us
from blocksnapd.store.point_layer import PointLayer
from blocksnapd.store.point_span import PointTables
from blocksnapd.store.resumed import Resumed
from blocksnapd.store.runs import SLOT_BITS, Runs
from blocksnapd.store.seal import POINT_TAG_SIZE, Scope, digest
from blocksnapd.store.session_dedup import SessionDedup
from blocksnapd.store.tables import TableWriter

if TYPE_CHECKING:
    from blocksnapd.model import U8, U64
    from blocksnapd.ports import KnownContent
    from blocksnapd.store.epoch_watch import EpochWatch
    from blocksnapd.store.keys import SourceKey
    from blocksnapd.store.objects import Lock, ObjectStore
    from blocksnapd.store.session_log import SessionLog

INLINE_SIZE_MAX = 1 << 20


class Sink:
    """A ``ports.PointSink``; made by ``Repository.begin``, which holds ``lock`` for it."""

    def __init__(
        self,
        store: ObjectStore,
        key: SourceKey,
        lock: Lock,
        *,
        volume_id: str,
        point_id: str,
        block_size: int,
        base: PointHead | None,
        day: str,
        level: int,
        frame_size: int,
        known: KnownContent | None = None,
        watch: EpochWatch,
        log: SessionLog,
    ) -> None:
        self._store, self._key, self._lock, self._watch = store, key, lock, watch
        self._volume_id, self._point_id, self._base = volume_id, point_id, base
        self._seq = base.seq + 1 if base else 1
        self._block_size, self._day = block_size, day
        self._level, self._frame_size = level, frame_size
        self._known, self._dedup = known, SessionDedup(known)
        self._known_packs: dict[int, PackRef] = {}
        self._layer = PointLayer()
        self._zeros = TableWriter(located=False)
        self._zeros_since_pack: list[Runs] = []
        self._sum = self._shipped = self._deduplicated = self._stored = self._pack_count = 0
        self._next_block = self._next_zero = 0
        self._open = True
        self._may_exist = self._may_land = False
        count = os.cpu_count() or 1
        self._workers = ThreadPoolExecutor(count, thread_name_prefix="seal")
        self._log, self._sender = log, PackSender(store, log)
        log.begin(watch.epoch, watch.began)
        self._resumed = Resumed(store, log, self._take) if log.session else None
        self._free: SimpleQueue[Batch] = SimpleQueue()
        for memory in buffers(2 * count + 2, BATCH_SIZE):
            self._free.put(Batch(block_size, memory))
        self._batch = self._free.get()
        self._pack: PackWriter | None = None
        self._pack_number = 0
        self._finished: tuple[PointFacts, Header, bytes] | None = None

    @property
    def shipped_bytes(self) -> int:
        """Raw bytes put into packs so far."""
        return self._shipped

    @property
    def deduplicated_bytes(self) -> int:
        """Raw bytes taken by ``add`` so far that the repository had already."""
        return self._deduplicated

    @property
    def stored_bytes(self) -> int:
        """Bytes of the objects put so far."""
        return self._stored + self._sender.stored

    def add(self, blocks: U64, hashes: U8, data: memoryview) -> None:
        """Take blocks with content; see ``ports.PointSink.add``.

        Raises:
            StoreFullError, StoreError: an earlier pack could not be written.
        """
        if not len(blocks):
            return
        assert self._open
        assert int(blocks[0]) >= self._next_block
        assert bool((blocks[1:] > blocks[:-1]).all())
        assert len(hashes) == len(blocks)
        assert data.nbytes == len(blocks) * self._block_size
        self._next_block = int(blocks[-1]) + 1
        rows = np.frombuffer(data, dtype=np.uint8).reshape(-1, self._block_size)
        is_stored = np.zeros(len(blocks), dtype=np.bool_)

        def store(which: np.typing.NDArray[np.intp]) -> U64:
            found = self._found_again(blocks[which], hashes[which])
            new = found == NOWHERE
            is_stored[which[new]] = True
            found[new] = self._store_blocks(blocks, hashes, rows, which[new])
            return found

        locations = self._dedup.place(hashes, store)
        self._count(blocks, hashes, is_stored)
        self._layer.add(blocks, locations)
        if self._known is not None:
            self._name_packs(locations, self._known)
            self._known.note(blocks, hashes, locations)

    def add_zeros(self, starts: U64, counts: U64) -> None:
        """Take runs of zero blocks; see ``ports.PointSink.add_zeros``."""
        if not len(starts):
            return
        assert self._open
        assert int(starts[0]) >= self._next_zero
        runs = Runs.zeros(np.array(starts, dtype=np.uint64), np.array(counts, dtype=np.uint64))
        assert bool((runs.lengths > 0).all() and (runs.starts[1:] >= runs.ends[:-1]).all())
        self._next_zero = int(runs.ends[-1])
        self._zeros.add(runs)
        self._zeros_since_pack.append(runs)

    def finish(self, facts: PointFacts) -> list[bytes]:
        """Make the packs durable and the point ready; see ``ports.PointSink.finish``."""
        assert self._open
        assert self._finished is None
        self._check_facts(facts)
        inline = self._finish_packs()
        header, body = self._header(facts), self._body(facts)
        PointTables(header, body).check()  # what a reader would refuse is not written
        self._check_sum(facts)
        data = pack_point(
            header, body, inline, metadata_public=self._key.metadata_public,
            hash_key=self._key.hash_key,
        )  # fmt: skip
        self._finished = facts, header, data
        return self._records(header.name, data, sum(map(len, inline)))

    def commit(self, facts: PointFacts) -> RestorePoint:
        """Make everything durable, then the point itself; see ``ports.PointSink.commit``."""
        assert self._open
        if self._finished is None:
            self.finish(facts)
        assert self._finished is not None
        said, header, data = self._finished
        assert facts == said
        named = {pack.name for pack in (*self._known_packs.values(), *self._sender.packs())}
        commit = Commit(self._store, self._watch, header.name, named)
        self._may_exist = True
        try:
            self._stored += commit.put(data)
        except CondemnedError:
            self._forget_log()  # or whoever goes on would be refused for the same packs
            raise
        except StoreError as error:
            self._may_land = error.transient  # what was given up may arrive at any later moment
            raise
        self._forget_log()
        commit.look_after()
        self._close()
        return RestorePoint(
            facts=facts, seq=self._seq, name=header.name, digest=digest(data),
            prev_name=header.prev_name, prev_digest=header.prev_digest,
            shipped_bytes=self._shipped, stored_bytes=self.stored_bytes,
            deduplicated_bytes=self._deduplicated,
        )  # fmt: skip

    def abort(self) -> None:
        """Give up; remove this session's packs unless the point may name them."""
        if not self._open:
            return
        self._workers.shutdown(wait=True, cancel_futures=True)
        self._sender.close(cancel=True)
        try:
            name = point_name(self._volume_id, self._seq, self._point_id)
            if not self._may_land and not (self._may_exist and self._store.exists(name)):
                for name in self._sender.leftovers():
                    self._store.delete(name)
        except StoreError:
            pass  # leftovers that no point names: they cost room, nothing else
        finally:
            self._close()

    def _found_again(self, blocks: U64, hashes: U8) -> U64:
        if self._resumed is None:
            return np.full(len(blocks), NOWHERE)
        return self._resumed.find(blocks, hashes)

    def _take(self, ref: PackRef) -> int:
        # A pack that the session had put before it was cut.
        number, self._pack_count = self._pack_count, self._pack_count + 1
        self._sender.refs[number] = ref
        self._stored += ref.size
        return number

    def _store_blocks(
        self, blocks: U64, hashes: U8, rows: U8, which: np.typing.NDArray[np.intp]
    ) -> U64:
        # A pack is chosen before a batch is begun, so that a block's location is known at once.
        locations, at = np.empty(len(which), dtype=np.uint64), 0
        while at < len(which):
            pack = self._pack_with_room()
            first = (self._pack_number << 32) + pack.slots + self._batch.count
            taken = self._batch.fill(blocks, hashes, rows, which[at:])
            locations[at : at + taken] = np.arange(first, first + taken, dtype=np.uint64)
            at += taken
            if self._batch.is_full:
                self._submit(pack)
        return locations

    def _count(self, blocks: U64, hashes: U8, is_stored: np.typing.NDArray[np.bool_]) -> None:
        # What is stored is summed by its pack, from what lies in it.
        stored = int(np.count_nonzero(is_stored))
        self._shipped += stored * self._block_size
        if stored < len(blocks):
            self._deduplicated += (len(blocks) - stored) * self._block_size
            found = ~is_stored
            self._sum = state_add(self._sum, state_sum(blocks[found], hashes[found]), 0)

    def _name_packs(self, locations: U64, known: KnownContent) -> None:
        known_ones = locations[locations >= KNOWN_PACK]
        if not len(known_ones):
            return
        numbers = distinct(known_ones >> SLOT_BITS)
        for number in (numbers & PACK_NUMBER_MASK).tolist():
            if number not in self._known_packs:
                record = known.pack(number)
                self._known_packs[number] = unpack_ref_record(record, self._volume_id)

    def _pack_with_room(self) -> PackWriter:
        pack = self._pack
        if pack is not None and not self._batch.count and not pack.has_room(self._batch):
            self._close_pack(pack)
            pack = None
        if pack is None:
            pack = self._pack = self._new_pack()
        return pack

    def _submit(self, pack: PackWriter) -> None:
        self._sender.check()
        pack.add(self._batch, self._workers, self._free.put)
        self._batch = self._free.get()

    def _new_pack(self) -> PackWriter:
        nonce = secrets.token_hex(4)
        name = pack_name(self._volume_id, self._day, self._point_id, self._pack_count, nonce)
        scope = Scope(self._key.repository_id, self._volume_id, name)
        self._pack_number, self._pack_count = self._pack_count, self._pack_count + 1
        return PackWriter(
            scope, self._key, point_id=self._point_id, seq=self._seq, block_size=self._block_size,
            level=self._level, frame_size=self._frame_size,
        )  # fmt: skip

    def _close_pack(self, pack: PackWriter) -> None:
        zeros = self._account(pack)
        self._sender.send(self._pack_number, pack, zeros)

    def _account(self, pack: PackWriter) -> list[Runs]:
        self._sum = state_add(self._sum, pack.state_sum(), 0)
        zeros, self._zeros_since_pack = self._zeros_since_pack, []
        self._pack = None
        return zeros

    def _finish_packs(self) -> list[bytes]:
        # Returns the last pack's parts where it goes into the point.
        pack, number = self._pack, self._pack_number
        if pack is not None and self._batch.count:
            self._submit(pack)
        self._sender.wait()
        if pack is None:
            return []
        zeros = self._account(pack)
        finished = pack.finish(zeros)
        if finished.ref.size > INLINE_SIZE_MAX or number + 1 < self._pack_count:
            self._sender.send_now(number, pack, finished)
            return []
        self._sender.refs[number] = finished.ref
        return finished.parts

    def _forget_log(self) -> None:
        with contextlib.suppress(OSError):  # it fits no other session
            self._log.remove()

    def _check_facts(self, facts: PointFacts) -> None:
        assert facts.volume_id == self._volume_id
        assert facts.point_id == self._point_id
        assert facts.block_size == self._block_size
        assert facts.kind == "full" or self._base is not None
        end = max(self._next_block, self._next_zero)
        assert end <= -(-facts.size // self._block_size)

    def _check_sum(self, facts: PointFacts) -> None:
        if facts.kind == "full" and facts.state_sum != self._sum:
            raise RefusedError(
                f"the blocks given for point {self._point_id} do not add up to its state sum",
                effect="Nothing was committed; earlier points are untouched.",
                hint="This is a fault of the program or of memory: please report it.",
            )

    def _header(self, facts: PointFacts) -> Header:
        return Header(
            repository_id=self._key.repository_id, volume_id=self._volume_id, seq=self._seq,
            point_id=self._point_id, prev_name=self._base.name if self._base else "",
            prev_digest=self._base.digest if self._base else "", kind=facts.kind,
            time_us=to_us(facts.time), size=facts.size, block_size=self._block_size,
            state_sum=f"{facts.state_sum:032x}", epoch=self._watch.epoch,
        )  # fmt: skip

    def _body(self, facts: PointFacts) -> Body:
        proof, known = facts.proof, sorted(self._known_packs)
        return Body(
            volume_name=facts.volume_name, method=facts.method, driver=facts.driver,
            consistency=facts.consistency, reason=facts.reason, tags=list(facts.tags),
            chunk_size=facts.chunk_size, changed_bytes=facts.changed_bytes,
            shipped_bytes=self._shipped,
            proof=ProofRecord(proof.checked_blocks, proof.mismatched_blocks, list(proof.ranges)),
            packs=[*(self._known_packs[number] for number in known), *self._sender.packs()],
            data=self._layer.finish(known), zeros=self._zeros.finish(),
            deduplicated_bytes=self._deduplicated,
        )  # fmt: skip

    def _records(self, name: str, data: bytes, inline_size: int) -> list[bytes]:
        packs = self._sender.packs()
        if inline_size:
            at = len(data) - POINT_TAG_SIZE - inline_size
            packs[-1] = msgspec.structs.replace(packs[-1], holder=name, offset=at)
        return [pack_ref_record(pack, self._volume_id) for pack in packs]

    def _close(self) -> None:
        self._open = False
        self._workers.shutdown(wait=False)
        self._sender.close(cancel=False)
        self._log.close()
        self._lock.release()
