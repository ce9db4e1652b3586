"""The part of the port ``Operations`` that is about drills: of a daemon, and of a worker."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from blocksnapd.control.messages import SCHEMA
from blocksnapd.errors import NotFoundError, RefusedError

if TYPE_CHECKING:
    from blocksnapd.control.drill_messages import Drill
    from blocksnapd.control.messages import RunRequest, Started, Who
    from blocksnapd.service.drill_book import DrillBook
    from blocksnapd.service.drill_task import DrillTask


class DrillAnswers:
    """Answers out of the book of a daemon; the work is done by its task. Event loop only."""

    def __init__(self, task: DrillTask, book: DrillBook) -> None:
        self._drill_task, self._drill_book = task, book

    def start_drill(self, request: RunRequest, who: Who) -> Started:
        """Start a drill with the key that is configured, or join the one under way.

        Raises:
            RefusedError, NotFoundError, KeyMissingError: nothing was started.
        """
        if not request.get("volume") or {"check", "scratch", "restores"} & request.keys():
            raise RefusedError(
                "the daemon drills a volume as its configuration says",
                effect="Nothing was started.",
                hint="Name the volume alone; with --key FILE you say how, and drill it yourself.",
            )
        run, joined = self._drill_task.start(request["volume"], request.get("point", ""), who)
        return {"schema": SCHEMA, "id": run.run_id, "joined": joined}

    async def drills(self, volume: str | None, since: float) -> list[Drill]:
        """Return the evidence of drills, of one volume or of all, from an instant on."""
        return await asyncio.to_thread(self._drill_book.drills, volume, since)

    async def keep_drill(self, drill: Drill, who: Who) -> None:  # noqa: ARG002 - the log has it
        """Keep the evidence of a drill that somebody made with a key of their own.

        Raises:
            NotFoundError: no such volume is configured. StateError: it could not be kept.
        """
        self._drill_task.check_known(drill["volume"])
        await self._drill_task.keep(drill)


class NoDrills:
    """Answers of a worker: it drills, but lives too short to keep what it finds."""

    async def drills(self, volume: str | None, since: float) -> list[Drill]:  # noqa: ARG002
        """Return nothing."""
        return []

    async def keep_drill(self, drill: Drill, who: Who) -> None:  # noqa: ARG002
        """Refuse."""
        raise NotFoundError(
            "a worker keeps no evidence", effect="It was not kept.",
            hint="The daemon that protects the volume does, and so does blocksnapctl drill.",
        )  # fmt: skip
