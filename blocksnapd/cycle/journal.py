"""The journal: what a volume's rotation must remember across a crash. Edge.

One small file per volume, replaced whole and synced before anything is done that depends on it:

    line 1   xxh3_128 of line 2, hex
    line 2   the record, JSON

The truth about points is in the repository and the truth about snapshots on the host; the journal
only tells which snapshot was taken for a point that is not committed yet, and when.
A journal that is lost costs at most the point under way. Blocking: call in a thread.
"""

from __future__ import annotations

import os
from datetime import datetime  # noqa: TC003 - msgspec reads it at run time

import msgspec

from blocksnapd.cycle.checked_line import pack_line, unpack_line
from blocksnapd.errors import StateError
from blocksnapd.runtime import durable


class Pending(msgspec.Struct, frozen=True):
    """A point under way.

    ``time`` is when its snapshot was asked for and, once it exists, its instant; ``suspend_s``
    is how long it held writers, measured; ``consistency`` what hooks around it made of it.
    """

    point_id: str
    time: datetime
    tags: tuple[str, ...] = ()
    suspend_s: float = 0.0
    consistency: str = ""


class Record(msgspec.Struct, frozen=True):
    """What the journal holds of one volume.

    ``cut`` is a point that was given up before its commit began: no object of it can come to be any
    more. The next one takes its id and goes on from what was put for it.
    """

    volume_id: str
    volume_name: str
    pending: Pending | None = None
    cut: str = ""


class Journal:
    """The journal of one volume, held in memory and on disk."""

    def __init__(self, directory: str, record: Record) -> None:
        self._path = os.path.join(directory, "journal")
        self.record = record

    @classmethod
    def open(cls, directory: str, *, volume_id: str, volume_name: str) -> Journal:
        """Read the journal in ``directory``; a new volume starts an empty one.

        Raises:
            StateError: the journal is damaged.
        """
        durable.make_dirs(directory)
        journal = cls(directory, Record(volume_id, volume_name))
        try:
            with open(journal._path, "rb") as file:
                journal.record = unpack(file.read())
        except FileNotFoundError:
            journal._write(journal.record)
        if journal.record.volume_id != volume_id:
            journal._write(Record(volume_id, volume_name))
        return journal

    def begin(self, pending: Pending) -> None:
        """Note a point under way, or more about it; durable on return.

        From here on its commit may begin, so no other takes its id.
        """
        self._write(msgspec.structs.replace(self.record, pending=pending, cut=""))

    def end(self, *, cut: str = "") -> None:
        """Note that no point is under way, and which one was cut; durable on return."""
        self._write(msgspec.structs.replace(self.record, pending=None, cut=cut))

    def _write(self, record: Record) -> None:
        durable.replace(self._path, pack(record))
        self.record = record


def pack(record: Record) -> bytes:
    """Return the bytes of a journal file."""
    return pack_line(msgspec.json.encode(record))


def unpack(data: bytes) -> Record:
    """Return the record in a journal file's bytes.

    Raises:
        StateError: they are not what :func:`pack` wrote.
    """
    line = unpack_line(data)
    if not line.is_true:
        raise StateError(
            f"the journal's checksum is {line.digest[:32]!r}, its content has another",
            effect="Points already committed are not touched.",
            hint="Remove the file; the next cycle finds its way from the repository and the host.",
        )
    try:
        return msgspec.json.decode(line.body, type=Record)
    except msgspec.MsgspecError as error:
        raise StateError(f"the journal does not hold a record: {error}") from error
