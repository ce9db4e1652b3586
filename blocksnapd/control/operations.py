"""What the control server asks of the daemon: one Protocol, handed in by ``daemon.py``. Pure.

Every method may raise any ``BlocksnapError``; the server turns it into problem+json.
The streams end by themselves when there is nothing more to say; closing one early is normal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from blocksnapd.control.documents import ConfigTold, Reloaded
    from blocksnapd.control.drill_messages import Drill
    from blocksnapd.control.map_messages import ChangeMap, MapQuery
    from blocksnapd.control.messages import (
        Event,
        FilesQuery,
        HoldRequest,
        Plan,
        Point,
        Run,
        RunRequest,
        Started,
        Status,
        VolumeStatus,
        Who,
    )
    from blocksnapd.control.pause_messages import (
        EndedViews,
        InPlaceRequest,
        Paused,
        PauseRequest,
        ResumeRequest,
    )


class Operations(Protocol):
    """The daemon as its operator sees it."""

    async def status(self) -> Status:
        """Return everything about every volume, from memory."""

    async def volume(self, name: str) -> VolumeStatus:
        """Return one volume.

        Raises:
            NotFoundError: no such volume is configured.
        """

    async def points(self, volume: str | None, *, with_forgotten: bool = False) -> list[Point]:
        """Return the points of one volume or of all, oldest first per volume."""

    async def point(self, selector: str) -> Point:
        """Return the one point that ``selector`` names, see ``control.selectors``.

        A forgotten point is found by its id only.

        Raises:
            NotFoundError: none. UsageError: several, or not a selector.
        """

    def files(self, selector: str, query: FilesQuery) -> AsyncGenerator[dict[str, Any], None]:
        """Yield what is at a path of a point, in parts of bounded size.

        Each has ``volumes``, or ``directory`` with ``entries``, or a ``note``; see
        ``files.listing``.

        Raises:
            NotFoundError, UsageError: as ``point``, or nothing is at the path.
            KeyMissingError: whoever answers reads no content. FormatError: damage.
        """

    async def hold(self, selector: str, request: HoldRequest, who: Who) -> Point:
        """Let nothing drop a point until somebody releases it.

        Raises:
            NotFoundError, UsageError: as ``point``. RefusedError, KeyMissingError: not done.
        """

    async def release(self, selector: str, who: Who) -> Point:
        """Leave a point to the policy again; raises as ``hold``."""

    async def undelete(self, selector: str, who: Who) -> Point:
        """Bring a forgotten point back, and hold it; raises as ``hold``."""

    async def plan(self, plan_id: str) -> Plan:
        """Return a plan that a run of kind ``prune`` made.

        Raises:
            NotFoundError: there is none of that id, or it expired.
        """

    async def apply_plan(self, plan_id: str, who: Who) -> Plan:
        """Do a plan, exactly it, whatever guards said.

        Raises:
            NotFoundError: as ``plan``. RefusedError: something changed since it was made.
        """

    async def pause(self, volume: str, request: PauseRequest, who: Who) -> VolumeStatus:
        """Start no run of a volume by itself any more.

        Raises:
            NotFoundError: no such volume is configured.
        """

    async def resume(self, volume: str, request: ResumeRequest, who: Who) -> VolumeStatus:
        """Let the schedule go on.

        Raises:
            NotFoundError: as ``pause``. RefusedError, BusyError: a restore in place is not done.
        """

    async def in_place(self, volume: str, request: InPlaceRequest, who: Who) -> Paused:
        """Hear from whoever restores a volume in place: that it begins, how far it is, its end.

        Raises:
            NotFoundError: no such volume, or that lease is over. RefusedError, BusyError: it may
                not begin.
        """

    async def end_views(self, volume: str, who: Who) -> EndedViews:
        """End the kernel's views of a volume, and clear away what a crash left of some.

        Raises:
            NotFoundError: no such volume. BusyError: one is in use. Others: call again.
        """

    async def start_run(self, request: RunRequest, who: Who) -> Started:
        """Start a run, or join the one of the same kind and volume that is under way.

        Raises:
            NotFoundError, RefusedError, BusyError, UsageError: nothing was started.
        """

    async def runs(self, volume: str | None) -> list[Run]:
        """Return the runs under way and the last ones, newest first."""

    async def run(self, run_id: str) -> Run:
        """Return one run as it is now.

        Raises:
            NotFoundError: no such run.
        """

    async def wait_run(self, run_id: str, timeout_s: float) -> Run:
        """Return the run once it is done, or as it is after ``timeout_s``."""

    def follow_run(self, run_id: str) -> AsyncGenerator[Run, None]:
        """Yield the run now and at each change (steps may be left out), at last when done."""

    async def cancel_run(self, run_id: str, who: Who) -> Run:
        """Ask a run to stop; it may still be stopping on return."""

    async def change_map(self, volume: str, query: MapQuery) -> ChangeMap:
        """Return where and when a volume changed, read from its repository.

        Raises:
            NotFoundError: no such volume, or no point of that time. BusyError: another is read.
            KeyMissingError: whoever answers has no key for it. StoreError: the place failed.
        """

    async def drills(self, volume: str | None, since: float) -> list[Drill]:
        """Return the evidence of drills, of one volume or of all, from an instant on."""

    async def keep_drill(self, drill: Drill, who: Who) -> None:
        """Keep the evidence of a drill that somebody made with a key of their own.

        Raises:
            NotFoundError: no such volume is configured. StateError: it could not be kept.
        """

    def events(self, since: int, *, follow: bool) -> AsyncGenerator[Event, None]:
        """Yield events with ``seq`` above ``since``; with ``follow`` go on for ever."""

    def note(self, text: str, who: Who, *, volume: str) -> None:
        """Keep what somebody changed, or tried to, where it can be looked up."""

    async def config(self) -> ConfigTold:
        """Return every setting that holds.

        Raises:
            NotFoundError: whoever answers has no configuration.
        """

    async def reload(self) -> Reloaded:
        """Take the changed configuration up; runs under way go on.

        Raises:
            ConfigError: it is wrong; all goes on as before. NotFoundError: as ``config``.
        """

    async def ready(self) -> bool:
        """Say whether start-up (crash recovery included) is behind us."""
