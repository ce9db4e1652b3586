"""What is known of several targets' points from the one or two snapshots of a volume. Pure.

A *claim* is a sentence about a point of one target: "where the volume, at the instant of snapshot
``at``, may differ from this point is in the list ``owed``". With it the changes since the point are
the list and what ``at`` tracked since. An *exact* claim says that the point is of that very
instant: the list is empty, the snapshot shows the point's content, and what the snapshot saved
proves it. A claim is true whether or not its point was ever committed, and a snapshot may go once
all claims at it are put to another one:

    fold    the older one goes, the newer stays: what the older tracked is added to each list
    hang    the newer one goes, the older stays: it tracks all that the newer did, and more

Nothing waits for a target in either, so two snapshots are always enough, whoever is away.
The record of it is one small file per volume, replaced whole: a checked line of JSON.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime  # noqa: TC003 - msgspec reads it at run time
from typing import TypeAlias

import msgspec

from blocksnapd.cycle.checked_line import pack_line, unpack_line
from blocksnapd.errors import StateError


class Held(msgspec.Struct, frozen=True):
    """A snapshot on the host, or one about to be taken.

    ``is_fit``: another target may make a point of it, too. ``consistency`` is what hooks made it.
    """

    snapshot_id: str
    time: datetime
    consistency: str = ""
    is_fit: bool = True


class Claim(msgspec.Struct, frozen=True):
    """What is known of ``point_id``; ``owed`` names the file of its list, empty for none."""

    point_id: str
    at: str
    is_exact: bool = True
    owed: str = ""


class Record(msgspec.Struct, frozen=True):
    """Everything of one volume: its snapshots, oldest first, and each target's claims."""

    volume_id: str
    held: tuple[Held, ...] = ()
    lanes: dict[str, tuple[Claim, ...]] = {}

    def find(self, target: str, point_id: str) -> Claim | None:
        """Return the claim about a target's point, if there is one."""
        return next((c for c in self.lanes.get(target, ()) if c.point_id == point_id), None)

    def claims(self, at: str) -> list[Claim]:
        """Return every claim at a snapshot."""
        return [c for claims in self.lanes.values() for c in claims if c.at == at]

    def snapshot(self, snapshot_id: str) -> Held | None:
        """Return what is known of a snapshot."""
        return next((h for h in self.held if h.snapshot_id == snapshot_id), None)

    def files(self) -> set[str]:
        """Return the names of the lists that are in use."""
        return {c.owed for claims in self.lanes.values() for c in claims if c.owed}


Change: TypeAlias = Callable[[Claim], Claim | None]


def changed(record: Record, change: Change) -> Record:
    """Return the record with each claim as ``change`` has it; None drops it."""
    lanes = {
        target: tuple(new for claim in claims if (new := change(claim)) is not None)
        for target, claims in record.lanes.items()
    }
    return msgspec.structs.replace(record, lanes=lanes)


def with_claim(record: Record, target: str, claim: Claim) -> Record:
    """Return the record with one claim more, the last; an older one of its point goes."""
    kept = tuple(c for c in record.lanes.get(target, ()) if c.point_id != claim.point_id)
    return msgspec.structs.replace(record, lanes={**record.lanes, target: (*kept, claim)})


def without_claim(record: Record, target: str, point_id: str) -> Record:
    """Return the record without what is known of a target's point."""
    kept = tuple(c for c in record.lanes.get(target, ()) if c.point_id != point_id)
    return msgspec.structs.replace(record, lanes={**record.lanes, target: kept})


def with_held(record: Record, held: Held) -> Record:
    """Return the record with a snapshot more, or with more about one."""
    if record.snapshot(held.snapshot_id) is None:
        return msgspec.structs.replace(record, held=(*record.held, held))
    swapped = tuple(held if h.snapshot_id == held.snapshot_id else h for h in record.held)
    return msgspec.structs.replace(record, held=swapped)


def only(record: Record, there: set[str], targets: tuple[str, ...]) -> Record:
    """Return the record without what is neither on the host nor configured any more."""
    lanes = {
        target: tuple(c for c in record.lanes.get(target, ()) if c.at in there)
        for target in targets
    }
    held = tuple(h for h in record.held if h.snapshot_id in there)
    return msgspec.structs.replace(record, held=held, lanes=lanes)


def pack(record: Record) -> bytes:
    """Return the bytes of the file."""
    return pack_line(msgspec.json.encode(record))


def unpack(data: bytes) -> Record:
    """Return the record in the file's bytes.

    Raises:
        StateError: they are not what :func:`pack` wrote.
    """
    line = unpack_line(data)
    if line.is_true:
        try:
            return msgspec.json.decode(line.body, type=Record)
        except msgspec.MsgspecError as error:
            raise StateError(f"the record of snapshots is none: {error}") from error
    raise StateError(
        "the record of snapshots that several targets share is damaged",
        effect="The next point for each of them compares the whole volume; no data is lost.",
    )
