"""The runs that ended, kept over restarts: a line of JSON each, the newest ``KEPT_MAX``. Edge.

A run is remembered for whoever looks, and nothing hangs on it: a disk that fails costs a warning
in the log, a line that was torn is left out.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Final, cast

from blocksnapd.runtime import durable

if TYPE_CHECKING:
    from blocksnapd.control.messages import Run

log = logging.getLogger(__name__)

FILE_NAME: Final = "runs.jsonl"
KEPT_MAX: Final = 1000
FILE_SIZE_MAX: Final = 16 << 20  # a file larger than this is none of ours


class RunHistory:
    """What is in the file ``path``. ``note`` in the event loop, ``load`` and ``keep`` block."""

    def __init__(self, path: str, *, kept_max: int = KEPT_MAX) -> None:
        self._path, self._kept_max = path, kept_max
        self._waiting: asyncio.Queue[Run] = asyncio.Queue()
        self._lines = 0

    def load(self) -> list[Run]:
        """Return the runs that are kept, oldest first."""
        try:
            with open(self._path, "rb") as file:
                data = file.read(FILE_SIZE_MAX)
        except FileNotFoundError:
            return []
        except OSError as error:
            log.warning("past runs are not known: %s: %s", self._path, error)
            return []
        found = [run for run in map(_run, data.splitlines()) if run is not None]
        if data and not data.endswith(b"\n"):
            self._lines = 2 * self._kept_max  # torn: the next run writes the file anew
        else:
            self._lines = data.count(b"\n")
        return found[-self._kept_max :]

    def note(self, run: Run) -> None:
        """Let ``write_forever`` keep a run; returns at once."""
        self._waiting.put_nowait(run)

    async def write_forever(self) -> None:
        """Bring what was noted to the disk, for ever."""
        while True:
            run = await self._waiting.get()
            await asyncio.to_thread(self.keep, run)

    async def flush(self) -> None:
        """Bring everything noted so far to the disk."""
        while not self._waiting.empty():
            await asyncio.to_thread(self.keep, self._waiting.get_nowait())

    def keep(self, run: Run) -> None:
        """Add a run; now and then drop the oldest. Trouble is logged."""
        try:
            if self._lines < 2 * self._kept_max:
                durable.append(self._path, _line(run))
                self._lines += 1
            else:
                kept = [*self.load(), run][-self._kept_max :]
                durable.replace(self._path, b"".join(map(_line, kept)))
                self._lines = len(kept)
        except OSError as error:
            log.warning("run %s will not be known after a restart: %s", run["id"], error)


def _line(run: Run) -> bytes:
    return json.dumps(run).encode() + b"\n"


def _run(line: bytes) -> Run | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    is_run = isinstance(found, dict) and isinstance(found.get("id"), str)
    is_done = is_run and found.get("state") == "done" and isinstance(found.get("volume"), str)
    return cast("Run", found) if is_done else None
