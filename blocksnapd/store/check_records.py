"""A volume's records of verification in a store: read, told, joined. Edge.

What was damaged stays told until its record is closed; what was found whole is one object for a
run, and joining keeps these few. The hash key is enough for all of it.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.errors import FormatError, StoreMissingError
from blocksnapd.model import HASH_SIZE, Wanted
from blocksnapd.store.names import healed_name, parse_record_name, record_name, records_prefix
from blocksnapd.store.point_format import from_us
from blocksnapd.store.record_format import (
    RECORD_SIZE_MAX,
    BadRecord,
    Checked,
    HealedRecord,
    OkRecord,
    Record,
    open_record,
    seal_record,
)

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

    from blocksnapd.store.keys import SourceKey
    from blocksnapd.store.objects import ObjectStore

JOIN_FROM = 16


@dataclass(frozen=True, slots=True)
class Told:
    """What the records tell.

    Attributes:
        checked: name of a pack → when it was last found whole, µs since 1970.
        bad: name of a record → damage that is not healed yet, oldest first.
        problems: name of a record → why it cannot be read.
    """

    checked: dict[str, int]
    bad: dict[str, BadRecord]
    problems: dict[str, str]


class CheckRecords:
    """The records of one volume. Thread-safe."""

    def __init__(self, store: ObjectStore, source: SourceKey, volume_id: str) -> None:
        self._store, self._source, self._volume_id = store, source, volume_id

    def read(self) -> Told:
        """Return what all records tell.

        Raises:
            StoreError: the place failed.
        """
        return self._told(self._all())

    def _told(self, records: Iterable[tuple[str, Record | str]]) -> Told:
        told = Told({}, {}, {})
        closed = set()
        for name, record in records:
            if isinstance(record, OkRecord):
                _note(told.checked, record.checks)
            elif isinstance(record, BadRecord):
                told.bad[name] = record
            elif isinstance(record, HealedRecord) and healed_name(record.bad) == name:
                closed.add(record.bad)
            else:
                told.problems[name] = record if isinstance(record, str) else "it closes no record"
        for name in closed:
            told.bad.pop(name, None)
        return told

    def wanted(self, served: Container[str] = ()) -> Wanted:
        """Return what a source should ship again, without the records it has ``served``.

        Records that cannot be read ask for nothing: maintenance reports them.
        """
        told = self._told(self._all(".bad", ".healed"))  # the others are large, and others' concern
        open_ = {name: bad for name, bad in told.bad.items() if name not in served}
        rows = [bad.rows() for bad in open_.values() if bad.pack is not None]
        afresh = any(bad.pack is None for bad in open_.values())
        if not rows:
            none = np.zeros(0, dtype=np.uint64)
            empty = np.zeros((0, HASH_SIZE), dtype=np.uint8)
            return Wanted(none, empty, afresh, tuple(open_))
        blocks = np.concatenate([r.blocks for r in rows])
        identities = np.concatenate([r.identities for r in rows])
        lanes = np.ascontiguousarray(identities).view(np.uint64).reshape(-1, 2)
        keys = np.column_stack([blocks, lanes])
        unique = np.unique(keys, axis=0, return_index=True)[1]
        return Wanted(blocks[unique], identities[unique], afresh, tuple(open_))

    def add_ok(self, names: Iterable[str], *, time_us: int) -> None:
        """Tell that these packs were read whole; nothing when there are none."""
        checked = tuple(sorted(names))
        if checked:
            self._put(OkRecord((Checked(time_us, checked),)), time_us)

    def add_bad(self, record: BadRecord) -> str:
        """Tell of damage; return the record's name."""
        return self._put(record, record.time_us)

    def close(self, bad: str, *, time_us: int) -> None:
        """Tell that the damage of the record named ``bad`` is healed."""
        name = healed_name(bad)
        self._store.put(name, [self._seal(HealedRecord(bad, time_us), name)])

    def join(self, alive: Container[str], *, time_us: int, at_least: int = JOIN_FROM) -> None:
        """Join the records of whole packs when there are many, without packs not ``alive``."""
        names, checked = [], dict[str, int]()
        for name, record in self._all(".ok"):
            if isinstance(record, OkRecord):
                names.append(name)
                _note(checked, record.checks)
        if len(names) < at_least:
            return
        groups: dict[int, list[str]] = {}
        for pack, when in sorted(checked.items()):
            if pack in alive:
                groups.setdefault(when, []).append(pack)
        checks = tuple(Checked(when, tuple(packs)) for when, packs in sorted(groups.items()))
        self._put(OkRecord(checks), time_us)
        for name in names:
            self._store.delete(name)

    def _all(self, *kinds: str) -> Iterator[tuple[str, Record | str]]:
        # Each record of these kinds (none: of all), or why it cannot be read.
        for name in self._store.list_names(records_prefix(self._volume_id)):
            if kinds and not name.endswith(kinds):
                continue
            try:
                yield name, self._load(name)
            except (FormatError, StoreMissingError) as error:
                yield name, error.message

    def _load(self, name: str) -> Record:
        parse_record_name(name)  # before anything is read of it
        data = self._store.get(name, size_max=RECORD_SIZE_MAX)
        return open_record(data, name, self._source.repository_id, self._source.hash_key)

    def _put(self, record: OkRecord | BadRecord, time_us: int) -> str:
        kind = "bad" if isinstance(record, BadRecord) else "ok"
        month = f"{from_us(time_us):%Y%m}"
        name = record_name(self._volume_id, month, time_us, secrets.token_hex(4), kind)
        self._store.put(name, [self._seal(record, name)])
        return name

    def _seal(self, record: Record, name: str) -> bytes:
        return seal_record(record, name, self._source.repository_id, self._source.hash_key)


def _note(checked: dict[str, int], checks: Iterable[Checked]) -> None:
    for check in checks:
        for name in check.names:
            checked[name] = max(check.time_us, checked.get(name, 0))
