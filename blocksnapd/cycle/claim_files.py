"""The record of claims and the lists of what is owed, in a volume's state directory. Edge.

    shared          the record (``claims.py``)
    owed-<random>   a list that a claim names (``owed.py``); never changed, only replaced

A list is on the disk before the record that names it. Blocking: call in a thread.
"""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING, Final

from blocksnapd.cycle import claims, owed
from blocksnapd.cycle.claims import Record
from blocksnapd.errors import HostError, StateError
from blocksnapd.runtime import durable

if TYPE_CHECKING:
    from blocksnapd.cycle.claims import Claim
    from blocksnapd.model import Extents

FILE_NAME: Final = "shared"
_OWED: Final = "owed-"


class ClaimFiles:
    """``record`` is what is in the file; that of no volume before :meth:`load`."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self.record = Record("")

    def load(self) -> None:
        """Read the record; there is an empty one where there is no file.

        Raises:
            StateError: it is damaged; the record is empty.
        """
        try:
            with open(self._path(FILE_NAME), "rb") as file:
                self.record = claims.unpack(file.read())
        except FileNotFoundError:
            return

    def keep(self, record: Record) -> None:
        """Make ``record`` the one that holds, on the disk first.

        Raises:
            HostError: the disk failed; the one before holds.
        """
        try:
            durable.replace(self._path(FILE_NAME), claims.pack(record))
        except OSError as error:
            raise _failed(error) from error
        self.record = record

    def owed(self, claim: Claim) -> Extents:
        """Return the list of a claim.

        Raises:
            StateError: it is damaged. OSError: it is not there.
        """
        if not claim.owed:
            return owed.NOTHING
        with open(self._path(claim.owed), "rb") as file:
            return owed.unpack(file.read())

    def longer(self, claim: Claim, tracked: Extents, made: dict[str, str]) -> str | None:
        """Write the list of a claim with ``tracked`` added; return its name; None: it is lost.

        ``made`` has what was written before, by the name of the shorter list.

        Raises:
            HostError: the disk failed.
        """
        if claim.owed not in made:
            try:
                extents = owed.union(self.owed(claim), tracked)
            except (StateError, FileNotFoundError):
                return None
            name = f"{_OWED}{secrets.token_hex(8)}"
            try:
                durable.replace(self._path(name), owed.pack(extents))
            except OSError as error:
                raise _failed(error) from error
            made[claim.owed] = name
        return made[claim.owed]

    def remove_unused(self) -> None:
        """Remove the lists that no claim names."""
        used = self.record.files()
        for name in os.listdir(self._directory):
            if name.startswith(_OWED) and name not in used:
                durable.remove(self._path(name))

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name)


def _failed(error: OSError) -> HostError:
    return HostError(
        f"what is known of the snapshots cannot be noted: {error}",
        effect="No snapshot was taken or removed.",
        hint="Give the state directory room, or repair its disk; it is tried again.",
    )
