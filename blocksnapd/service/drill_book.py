"""The evidence of drills, kept for whoever asks later: a line of JSON each, a file a year. Edge.

Lines are only added. A torn last line, of a machine that died while it was written, hides no other
one; nothing in a file is believed before it was read as evidence.
"""

from __future__ import annotations

import json
import logging
import os
import re
from typing import TYPE_CHECKING, Final

from blocksnapd.control.drill_messages import is_asked_for, read_drill
from blocksnapd.errors import FormatError, StateError
from blocksnapd.runtime import durable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocksnapd.control.drill_messages import Drill

log = logging.getLogger(__name__)

LINE_SIZE_MAX: Final = 256 << 10
SHOWN_MAX: Final = 10_000
_NAME: Final = re.compile(r"(\d{4})\.jsonl")


class DrillBook:
    """What is in ``directory``; its methods block."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def keep(self, drill: Drill) -> None:
        """Add one.

        Raises:
            StateError: it could not be written.
        """
        path = os.path.join(self._directory, f"{drill['ended'][:4]}.jsonl")
        try:
            durable.make_dirs(self._directory)
            # A line that was torn must not take this one with it.
            durable.append(path, b"\n" * _is_torn(path) + json.dumps(drill).encode() + b"\n")
        except OSError as error:
            raise StateError(
                f"the evidence of a drill could not be kept in {path}: {error.strerror}",
                effect=f"{drill['volume']} was drilled ({drill['result']}); no report has it.",
                hint="Look at the disk that it lies on.",
            ) from error

    def drills(self, volume: str | None = None, since: float = 0.0) -> list[Drill]:
        """Return those of one volume, or of all, that ended at ``since`` or later, oldest first.

        Of very many the newest ``SHOWN_MAX``.
        """
        found = [
            drill
            for year in self._years()
            for drill in self._of(year)
            if is_asked_for(drill, volume, since)
        ]
        return sorted(found, key=lambda drill: drill["ended"])[-SHOWN_MAX:]

    def _years(self) -> list[str]:
        try:
            names = os.listdir(self._directory)
        except FileNotFoundError:
            return []
        return sorted(name for name in names if _NAME.fullmatch(name))

    def _of(self, name: str) -> Iterator[Drill]:
        path = os.path.join(self._directory, name)
        try:
            with open(path, "rb") as file:
                while line := file.readline(LINE_SIZE_MAX):
                    try:
                        yield read_drill(line)
                    except FormatError as error:
                        if line.strip():
                            log.warning("%s: %s", path, error.message)
        except OSError as error:
            log.warning("%s cannot be read: %s", path, error)


def _is_torn(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            if not file.seek(0, os.SEEK_END):
                return False
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except FileNotFoundError:
        return False
