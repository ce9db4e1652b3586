"""The event log: what happened, numbered, in memory and on the disk. Edge.

``say`` may be called from any thread and never raises or blocks. One task writes: a line is on
the disk before a reader can see it, so that a number never means two things, not even across a
crash. When the disk fails, readers still get the event and the journal says so.

The file keeps between a half and the whole of ``file_size_max``. A reader who falls behind what
memory holds is served from the file; one who falls behind even that sees a gap in ``seq``. No
reader has a queue, so a slow one costs nothing.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections import deque
from typing import TYPE_CHECKING, cast

import aiofiles

from blocksnapd.control.messages import SCHEMA, Event, format_time
from blocksnapd.runtime import durable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable

    from blocksnapd.control.messages import Severity
    from blocksnapd.ports import Clock

log = logging.getLogger(__name__)

FILE_NAME = "events.jsonl"
FILE_SIZE_MAX = 8 << 20
MEMORY_MAX = 1000
PENDING_MAX = 10_000
_LEVELS = {"warning": logging.WARNING, "error": logging.ERROR, "critical": logging.CRITICAL}


class EventLog:
    """Open it with ``await EventLog.open(...)``, keep ``write_forever()`` running."""

    def __init__(self, path: str, clock: Clock, *, file_size_max: int, memory_max: int) -> None:
        self._path = path
        self._clock = clock
        self._file_size_max = file_size_max
        self._loop = asyncio.get_running_loop()
        self._memory: deque[Event] = deque(maxlen=memory_max)
        self._pending: deque[Event] = deque(maxlen=PENDING_MAX)
        self._last_seq = 0
        self._size = 0
        self._said = asyncio.Event()
        self._news: asyncio.Future[None] = self._loop.create_future()
        self._is_failing = False
        self._writing = asyncio.Lock()

    @classmethod
    async def open(
        cls,
        state_dir: str,
        clock: Clock,
        *,
        file_size_max: int = FILE_SIZE_MAX,
        memory_max: int = MEMORY_MAX,
    ) -> EventLog:
        """Return the log kept in ``state_dir``, going on after its last number.

        Raises:
            OSError: the file can be neither read nor mended.
        """
        path = os.path.join(state_dir, FILE_NAME)
        self = cls(path, clock, file_size_max=file_size_max, memory_max=memory_max)
        async for event in _read(path):
            self._memory.append(event)
            self._last_seq = max(self._last_seq, event["seq"])
        self._size = await asyncio.to_thread(_mend, path)
        return self

    @property
    def last_seq(self) -> int:
        """The number of the newest event; 0: there is none."""
        return self._last_seq

    def recent(self) -> list[Event]:
        """Return the events in memory, oldest first."""
        return list(self._memory)

    def say(
        self,
        kind: str,
        message: str,
        *,
        severity: Severity = "info",
        volume: str = "",
        data: dict[str, object] | None = None,
    ) -> None:
        """Note that something happened; it shows up soon. From any thread; never raises."""
        event: Event = {
            "schema": SCHEMA,
            "seq": 0,
            "time": format_time(self._clock.now()),
            "type": kind,
            "severity": severity,
            "volume": volume,
            "message": message,
            "data": data or {},
        }
        log.log(_LEVELS.get(severity, logging.INFO), "%s: %s", kind, message)
        try:
            self._loop.call_soon_threadsafe(self._take, event)
        except RuntimeError:  # the loop is closed: the end of the daemon
            log.warning("too late for the event log: %s", message)

    async def write_forever(self) -> None:
        """Bring what was said to the disk and to the readers, for ever."""
        while True:
            await self._said.wait()
            await self.flush()

    async def flush(self) -> None:
        """Bring everything said so far to the disk and to the readers."""
        await asyncio.sleep(0)  # what other threads said is in the loop's queue
        async with self._writing:
            self._said.clear()
            batch = list(self._pending)
            self._pending.clear()
            if batch:
                for event in batch:
                    self._last_seq += 1
                    event["seq"] = self._last_seq
                await self._write(batch)
                self._memory.extend(batch)
                self._news.set_result(None)
                self._news = self._loop.create_future()

    async def events(self, since: int, *, follow: bool) -> AsyncGenerator[Event, None]:
        """Yield events with ``seq`` above ``since``, oldest first; with ``follow`` for ever.

        A negative ``since`` means so many of the last ones; one from the future, the end.
        """
        position = self._last_seq + since if since < 0 else min(since, self._last_seq)
        while True:
            news = self._news
            if self._memory and self._memory[0]["seq"] > position + 1:
                async for event in _read(self._path):
                    if event["seq"] > position:
                        position = event["seq"]
                        yield event
            for event in list(self._memory):
                if event["seq"] > position:
                    position = event["seq"]
                    yield event
            if not follow:
                return
            if news.done():
                continue
            await asyncio.shield(news)

    def _take(self, event: Event) -> None:
        self._pending.append(event)
        self._said.set()

    async def _write(self, batch: list[Event]) -> None:
        data = b"".join(map(_line, batch))
        try:
            if self._is_failing:  # the last try may have left half a line
                self._size = await asyncio.to_thread(_mend, self._path)
            if self._size + len(data) > self._file_size_max:
                self._size = await asyncio.to_thread(_halve, self._path)
            await asyncio.to_thread(durable.append, self._path, data)
        except OSError as error:
            if not self._is_failing:
                log.warning("events are in memory only: %s: %s", self._path, error)
            self._is_failing = True
        else:
            self._size += len(data)
            self._is_failing = False


def _line(event: Event) -> bytes:
    return json.dumps(event, default=str).encode() + b"\n"


def _parse(lines: Iterable[bytes]) -> list[Event]:
    """Return the events in ``lines``; a line that a crash tore is left out."""
    found = []
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and isinstance(event.get("seq"), int):
            found.append(cast("Event", event))
    return found


async def _read(path: str) -> AsyncIterator[Event]:
    try:
        async with aiofiles.open(path, "rb") as file:
            while lines := await file.readlines(1 << 16):
                for event in _parse(lines):
                    yield event
    except FileNotFoundError:
        return


def _mend(path: str) -> int:
    """Cut a torn last line off; return the file's size."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return 0
    whole = data[: data.rfind(b"\n") + 1]
    if whole != data:
        durable.replace(path, whole)
    return len(whole)


def _halve(path: str) -> int:
    """Drop the older half of the file, at a line's end; return its new size."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return 0
    newer = data[data.find(b"\n", len(data) // 2) + 1 :]
    durable.replace(path, newer)
    return len(newer)
