"""Runs of verification of one volume, and what they leave behind: records, and results. Edge.

    runs = VerifyRuns(store, key, volume_id)
    runs.structure(now_us)                       # daily
    runs.rolling(now_us, size=...)               # a share of the data, whenever there is time
    runs.whole(now_us)                           # on demand

What a run finds damaged is told in a record that every source of the volume reads, so that its
next cycle ships those blocks again; ``heal.py`` closes the record once they are found elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from blocksnapd.errors import StoreError
from blocksnapd.maintain.rolling import choose, verified_by_data
from blocksnapd.maintain.verify_levels import VolumeVerifier
from blocksnapd.model import HASH_SIZE
from blocksnapd.store.check_records import CheckRecords
from blocksnapd.store.manifest_format import Verified
from blocksnapd.store.record_format import ROWS_MAX, BadRecord, BadRows, bad_pack_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from blocksnapd.maintain.verify_levels import VolumeCheck
    from blocksnapd.model import U64
    from blocksnapd.store.check_records import Told
    from blocksnapd.store.keys import MaintenanceKey
    from blocksnapd.store.objects import ObjectStore
    from blocksnapd.store.pack_check import Slots

Level: TypeAlias = Literal["structure", "data"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run showed.

    Attributes:
        level: what was looked at.
        check: all that is known of the volume now.
        problems: every problem, as a sentence that starts with the name of an object.
        damaged_blocks: slots that some point needs and that cannot be restored.
        read_bytes: of packs, by this run.
        read_blocks: the same in blocks; 0 where packs were only compared with their digests.
        told: names of the records of damage that this run wrote.
        verified: points that count as verified now, for the manifest.
        notes: what went wrong beside: records that could not be written.
    """

    level: Level
    check: VolumeCheck
    problems: tuple[str, ...]
    damaged_blocks: int
    read_bytes: int
    read_blocks: int
    told: tuple[str, ...]
    verified: tuple[Verified, ...]
    notes: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether nothing was wrong."""
        return not self.problems


class VerifyRuns:
    """See the module. One thread.

    Args:
        store: where the volume is.
        key: maintenance.key, or restore.key, which opens frames too.
        volume_id: which.
        scratch: a directory with room for 16 bytes per block with content.
        progress: told bytes of packs read so far and in all.
        cancelled: asked now and then; CancelledRunError ends the run then.
    """

    def __init__(
        self,
        store: ObjectStore,
        key: MaintenanceKey,
        volume_id: str,
        *,
        scratch: str | None = None,
        progress: Callable[[int, int], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        self._verifier = VolumeVerifier(
            store, key, volume_id, scratch=scratch, progress=progress, cancelled=cancelled
        )
        self.records = CheckRecords(store, key.source, volume_id)
        self._found: VolumeCheck | None = None
        self._notes: list[str] = []

    def structure(self, now_us: int) -> Outcome:
        """Check everything but frames.

        Raises:
            CancelledRunError: it was. HostError: no room for notes. StoreError: the place failed.
        """
        told = self.records.read()
        found = self._structure(told)
        written = self._tell(found, told, now_us)
        whole = [p.seq for p in found.points if p.is_whole and p.is_known]
        verified = (Verified(whole[-1], now_us, "structure"),) if whole else ()
        if found.points and found.points[-1].is_known:
            self._close_lost_objects(told, now_us)
        return self._outcome("structure", found, told, written, verified, read=(0, 0))

    def rolling(self, now_us: int, *, size: int) -> Outcome:
        """Read packs of about ``size`` bytes whole, the longest unchecked first.

        Which packs there are is known from the last ``structure``, which is run if there was
        none. Raises as that.
        """
        told = self.records.read()
        found = self._found or self._structure(told)
        return self._read(found, choose(found.packs, told.checked, size), told, now_us)

    def whole(self, now_us: int, *, share: float = 1.0) -> Outcome:
        """Check everything, and read ``share`` of the bytes of packs whole; raises as the others.

        What the check of the structure says stands in the outcome, too.
        """
        told = self.records.read()
        found = self._structure(told)
        total = sum(use.place.ref.size for use in found.packs.values())
        names = choose(found.packs, told.checked, round(total * share))
        return self._read(found, names, told, now_us)

    def _structure(self, told: Told) -> VolumeCheck:
        found = self._verifier.structure()
        found.problems += [f"{name}: {text}" for name, text in told.problems.items()]
        # Damage stays damage until it is healed, also where a disk reads well today.
        known = {bad.name: bad for bad in told.bad.values() if bad.name in found.packs}
        self._verifier.add_lost(found, {name: _slots(bad) for name, bad in known.items()})
        self._found = found
        return found

    def _read(self, found: VolumeCheck, names: list[str], told: Told, now_us: int) -> Outcome:
        before = found.read_bytes, found.read_blocks
        bad = set(found.lost)
        checks = self._verifier.data(found, names)
        whole = [c.place.ref.name for c in checks if not c.problem and c.place.ref.name not in bad]
        self._write(lambda: self.records.add_ok(whole, time_us=now_us))
        self._write(lambda: self.records.join(found.packs, time_us=now_us))
        written = self._tell(found, told, now_us)
        checked = told.checked | dict.fromkeys(whole, now_us)
        verified = verified_by_data(found.points, found.packs, checked, time_us=now_us)
        read = found.read_bytes - before[0], found.read_blocks - before[1]
        entries = (verified,) if verified else ()
        return self._outcome("data", found, told, written, entries, read=read)

    def _tell(self, found: VolumeCheck, told: Told, now_us: int) -> list[str]:
        # Only what is new; a record of what no point needs would ask for nothing.
        written: list[str] = []
        for name in found.lost:
            known = [_slots(bad) for bad in told.bad.values() if bad.name == name]
            new = _bad_records(found, name, known, now_us)
            for record in new:
                self._write(partial(self._add_bad, record, written))
        lost = _lost_object(found)
        if lost and all(bad.name != lost for bad in told.bad.values()):
            text = "the newest point cannot be read without it"
            record = BadRecord(lost, text, now_us, found.newest_seq)
            self._write(partial(self._add_bad, record, written))
        return written

    def _close_lost_objects(self, told: Told, now_us: int) -> None:
        # The newest image is known again: nothing that follows builds on what was lost.
        for name, bad in told.bad.items():
            if bad.pack is None:
                self._write(partial(self.records.close, name, time_us=now_us))

    def _add_bad(self, record: BadRecord, written: list[str]) -> None:
        written.append(self.records.add_bad(record))

    def _write(self, write: Callable[[], object]) -> None:
        # Who may only read the repository learns what is damaged all the same.
        try:
            write()
        except StoreError as error:
            self._notes.append(f"What was found could not be recorded: {error.message}")

    def _outcome(
        self,
        level: Level,
        found: VolumeCheck,
        told: Told,
        written: Iterable[str],
        verified: tuple[Verified, ...],
        *,
        read: tuple[int, int],
    ) -> Outcome:
        problems = found.told()
        for bad in told.bad.values():
            text = f"{bad.name}: {bad.problem}"
            if bad.name in found.lost and not any(p.startswith(f"{bad.name}:") for p in problems):
                problems.append(f"{text} (found earlier, not healed yet)")
        damaged = sum(len(np.unique(slots)) for slots, _ in found.uses.values())
        return Outcome(
            level, found, tuple(problems), damaged, read[0], read[1], tuple(written), verified,
            tuple(dict.fromkeys(self._notes)),
        )  # fmt: skip


def _slots(bad: BadRecord) -> Slots:
    return np.unique(bad.rows().slots).astype(np.intp)


def _lost_object(found: VolumeCheck) -> str:
    # What keeps the newest image unknown; a cycle that builds on it would be unknown, too.
    if not found.points or found.points[-1].is_known:
        return ""
    known = [at for at, point in enumerate(found.points) if point.is_known]
    return found.points[known[-1] + 1 if known else 0].name


def _bad_records(
    found: VolumeCheck, name: str, known: list[Slots], now_us: int
) -> Iterator[BadRecord]:
    slots, blocks = found.uses.get(name, (np.zeros(0, dtype=np.uint64),) * 2)
    new = ~np.isin(slots.astype(np.intp), np.concatenate(known)) if known else slots == slots
    slots, blocks = slots[new], blocks[new]
    problem = found.objects[name].problem or "slots of it cannot be restored"
    ref = found.packs[name].place.ref
    for at in range(0, len(slots), ROWS_MAX):
        part = slice(at, at + ROWS_MAX)
        rows = BadRows(slots[part], blocks[part], _identities(found, name, slots[part]))
        yield bad_pack_record(ref, rows, problem, time_us=now_us, newest_seq=found.newest_seq)


def _identities(found: VolumeCheck, name: str, slots: U64) -> np.typing.NDArray[np.uint8]:
    table = found.identities.get(name)
    if table is None:
        return np.zeros((len(slots), HASH_SIZE), dtype=np.uint8)
    return np.asarray(table[slots.astype(np.intp)])
