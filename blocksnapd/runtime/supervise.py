"""Named tasks that live and die together. Edge.

Two kinds: an *eternal* task never ends, so one that does is an error like a crash; a *passing*
one may. Any error stops all of them and comes out of the ``async with``. ``stop`` ends them in
good order; whoever does not end in time is named in the log.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from types import TracebackType

log = logging.getLogger(__name__)

STUCK_AFTER_S = 10.0


class EternalTaskEnded(Exception):  # noqa: N818 - it names the fact, and is our own mistake
    """A task that must not end did."""


class Supervisor:
    """``async with Supervisor() as tasks: tasks.eternal("name", coroutine)``."""

    def __init__(self) -> None:
        self._group = asyncio.TaskGroup()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_stopping = False

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._group.__aexit__(kind, error, trace)

    def eternal(self, name: str, work: Coroutine[object, object, object]) -> asyncio.Task[None]:
        """Start a task that must not end before ``stop``."""
        return self._start(name, self._never_ending(name, work))

    def passing(self, name: str, work: Coroutine[object, object, object]) -> asyncio.Task[None]:
        """Start a task that may end."""
        return self._start(name, _drop_result(work))

    @property
    def names(self) -> list[str]:
        """The tasks that are alive."""
        return sorted(task.get_name() for task in self._tasks)

    def stop(self) -> None:
        """Cancel every task; the ``async with`` ends once they are gone."""
        self._is_stopping = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            asyncio.get_running_loop().call_later(STUCK_AFTER_S, self._name_the_stuck)

    def _start(self, name: str, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = self._group.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _never_ending(self, name: str, work: Coroutine[object, object, object]) -> None:
        await work
        if not self._is_stopping:
            raise EternalTaskEnded(f"task {name!r} ended, which it must not")

    def _name_the_stuck(self) -> None:
        if self._tasks:
            log.warning("still not stopped: %s", ", ".join(self.names))


async def _drop_result(work: Coroutine[object, object, object]) -> None:
    await work
